"""The starting point of the tiny model: a tokenizer for the words of remote sensing, and parts with random weights.

``python -m btcchat.synthetic.start OUT`` writes the checkpoint folder that scripts/v1_5/tiny/1_align.sh starts from.
The same seed gives the same folder. Stage 2 adds a fresh change encoder, as for an original VILA-1.5 checkpoint.
"""

import argparse
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sentencepiece
import torch
from tokenizers import models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase

from btcchat.api import BTCChat
from btcchat.checkpoint.config import BTCChatConfig
from btcchat.checkpoint.parts import (
    change_encoder_of,
    check_parts,
    layout_of,
    projector_of,
    record_defaults,
    vision_tower_of,
)
from btcchat.language_model import build_language_model
from btcchat.language_model.llama_tokenizer import LlamaTokenizer
from btcchat.language_model.tokenizer import Qwen2TokenizerFast, byte_level_bpe
from btcchat.multimodal_encoder.preprocess import ImageProcessor
from btcchat.processor import Processor


@dataclass(frozen=True)
class Sizes:
    """Widths and depths; the defaults give about 5 M parameters, 10 MB in bfloat16."""

    resolution: int = 192  # 12 patches a side: no token covers two of the nine places of a scene
    patch: int = 16
    vision_width: int = 192
    vision_layers: int = 5
    vision_heads: int = 3
    llm_width: int = 192
    llm_layers: int = 4
    llm_heads: int = 3
    llm_hidden: int = 512
    vocabulary: int = 2048
    context: int = 1024


def train_tokenizer(corpus: Iterable[str], vocabulary: int, folder: Path) -> LlamaTokenizer:
    """A tokenizer with a SentencePiece BPE model, byte fallback and LLaMA's special ids (unk 0, bos 1, eos 2)."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocabulary,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=1.0,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    tokenizer = LlamaTokenizer(str(folder / "tokenizer.model"), legacy=False, clean_up_tokenization_spaces=False)
    tokenizer.pad_token = tokenizer.unk_token
    return tokenizer


def train_qwen2_tokenizer(
    corpus: Iterable[str], vocabulary: int, special: Sequence[str] = ("<|im_start|>", "<|im_end|>")
) -> Qwen2TokenizerFast:
    """Byte-level BPE with the tokens that end a text in Qwen2, and the ``special`` ones of a prompt template."""
    bpe = byte_level_bpe(models.BPE())
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    )
    names: dict[str, Any] = {
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "additional_special_tokens": [token for token in special if token != "<|im_end|>"],
    }
    return Qwen2TokenizerFast(tokenizer_object=bpe, clean_up_tokenization_spaces=False, **names)


def init_model(
    tokenizer: PreTrainedTokenizerBase,
    sizes: Sizes = Sizes(),
    *,
    seed: int = 0,
    change_encoder: dict[str, Any] | None = None,
    llm: str = "llama",
    **fields: Any,
) -> BTCChat:
    """A BTCChat with random weights. ``llm``: a model_type; ``fields``: other fields of BTCChatConfig."""
    torch.manual_seed(seed)
    config = BTCChatConfig(
        llm={
            "model_type": llm,
            "vocab_size": len(tokenizer),
            "hidden_size": sizes.llm_width,
            "intermediate_size": sizes.llm_hidden,
            "num_hidden_layers": sizes.llm_layers,
            "num_attention_heads": sizes.llm_heads,
            "num_key_value_heads": sizes.llm_heads,
            "max_position_embeddings": sizes.context,
            "tokenizer_model_max_length": sizes.context,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": False,
            "initializer_range": sizes.llm_width**-0.5,  # LLaMA's 0.02 is for widths of thousands
        },
        vision_tower={
            "model_type": "siglip_vision_model",
            "hidden_size": sizes.vision_width,
            "intermediate_size": 4 * sizes.vision_width,
            "num_hidden_layers": sizes.vision_layers,
            "num_attention_heads": sizes.vision_heads,
            "image_size": sizes.resolution,
            "patch_size": sizes.patch,
        },
        **{
            "change_encoder": change_encoder or {"change_encoder_type": "concat"},
            "mm_vision_select_layer": -1,
            **fields,
        },
    )
    language_model = build_language_model(config.llm)
    tower = vision_tower_of(config)
    places = tower.get_parameter("vision_model.embeddings.position_embedding.weight")
    places.data.copy_(sine_positions(tower.grid, tower.hidden_size))
    encoder, projector = change_encoder_of(config, tower), projector_of(config, tower)
    check_parts(config, tower, encoder, projector)
    record_defaults(config)
    image_processor = ImageProcessor.from_config(tower.default_preprocessor_config(), config.image_aspect_ratio)
    return BTCChat(
        vision_tower=tower,
        change_encoder=encoder,
        mm_projector=projector,
        llm=language_model,
        processor=Processor(config, tokenizer, image_processor, layout_of(config, tower, encoder, projector)),
    ).eval()


def sine_positions(grid: int, width: int, scale: float = 0.5) -> torch.Tensor:
    """Sines and cosines of row and column, ``(grid * grid, width)``: they say where a patch is before any training.

    As in MAE (He et al. 2022, arXiv:2111.06377). If they start as noise, the language model needs a third of the first
    stage to find the place that a word like "top left" means.
    """
    frequencies = 0.15 * 10 ** torch.linspace(0, 1, width // 4)  # radians a patch: periods of 42 to 4 patches
    angles = torch.arange(grid)[:, None] * frequencies  # (grid, width / 4)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # (grid, width / 2)
    rows, columns = waves[:, None].expand(-1, grid, -1), waves[None].expand(grid, -1, -1)
    return scale * torch.cat([rows, columns], dim=-1).flatten(0, 1)


def main() -> None:
    from btcchat.synthetic import corpus

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write the starting checkpoint to")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        tokenizer = train_tokenizer(corpus(arguments.seed), Sizes.vocabulary, Path(folder))
        model = init_model(tokenizer, seed=arguments.seed)
        model.save_pretrained(arguments.out)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"{arguments.out}: {millions:.2f} M parameters, vocabulary {len(tokenizer)}")


if __name__ == "__main__":
    main()
