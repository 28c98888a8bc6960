"""Folders of recent language models and of SigLIP 2 in their published layout, but tiny and with random weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from btcchat.language_model import build_language_model
from btcchat.language_model.tokenizer import WORDS, byte_level_bpe
from btcchat.multimodal_encoder import build_vision_tower
from tests.tiny import CORPUS

ROWS = 448  # of the embeddings; the tokenizers have fewer tokens, as Qwen's
SIZES = {
    "vocab_size": ROWS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "torch_dtype": "float32",
}
LLAMA3_ROPE = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 64,
    "rope_type": "llama3",
}
LLAMA3_WORDS = WORDS.replace(r"\p{N}|", r"\p{N}{1,3}|")  # up to three digits together
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


@dataclass(frozen=True)
class Family:
    """The contents of config.json, tokenizer.json and tokenizer_config.json of one family."""

    template: str
    config: dict[str, Any]
    special: tuple[str, ...]
    tokenizer: dict[str, Any]
    added: tuple[str, ...] = ()  # named tokens that are not special


QWEN_TOKENIZER = {
    "tokenizer_class": "Qwen2Tokenizer",
    "bos_token": None,
    "eos_token": "<|im_end|>",
    "pad_token": "<|endoftext|>",
    "unk_token": None,
    "add_bos_token": False,
    "add_prefix_space": False,
}
QWEN_CONFIG = {"rope_theta": 1e6, "sliding_window": 512, "use_sliding_window": False, "max_window_layers": 1}
FAMILIES = {
    "qwen2.5": Family(
        "chatml",
        {"model_type": "qwen2", "tie_word_embeddings": True, **QWEN_CONFIG},
        CHATML,
        QWEN_TOKENIZER,
    ),
    "qwen3": Family(
        "qwen3",
        {"model_type": "qwen3", "tie_word_embeddings": True, "head_dim": 16, "attention_bias": False, **QWEN_CONFIG},
        CHATML,
        QWEN_TOKENIZER,
        added=("<think>", "</think>"),
    ),
    "llama3": Family(
        "llama3",
        {"model_type": "llama", "rope_theta": 5e5, "rope_scaling": None, "attention_bias": False},
        LLAMA3,
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|eot_id|>",
        },
    ),
    "llama3.2": Family(
        "llama3",
        {"model_type": "llama", "rope_theta": 5e5, "rope_scaling": LLAMA3_ROPE, "tie_word_embeddings": True},
        LLAMA3,
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|eot_id|>",
        },
    ),
    "smollm2": Family(
        "chatml",
        {"model_type": "llama", "rope_theta": 1e5, "rope_scaling": None, "tie_word_embeddings": True},
        CHATML,
        {
            "tokenizer_class": "GPT2Tokenizer",
            "bos_token": "<|im_start|>",
            "eos_token": "<|im_end|>",
            "pad_token": "<|im_end|>",
            "unk_token": "<|endoftext|>",
            "add_prefix_space": False,
        },
    ),
}
# The families that the installed libraries support: 4.36 has neither Qwen3 nor LLaMA 3's ignore_merges.
HAS_QWEN3, HAS_LLAMA3 = hasattr(transformers, "Qwen3Config"), hasattr(models.BPE, "ignore_merges")
AVAILABLE = [
    name for name in FAMILIES if (HAS_QWEN3 or name != "qwen3") and (HAS_LLAMA3 or not name.startswith("llama"))
]
SIGLIP2_VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def write_language_model(folder: Path, name: str, *, seed: int = 0) -> Path:
    """Write the folder of a language model of a family, as published."""
    family = FAMILIES[name]
    tokenizer = _tokenizer(name)
    ends = {f"{kind}_token_id": _id(tokenizer, family.tokenizer.get(f"{kind}_token")) for kind in ("bos", "eos")}
    if name == "llama3.2":  # several, as published
        ends["eos_token_id"] = [tokenizer.token_to_id(token) for token in ("<|end_of_text|>", "<|eot_id|>")]
    config = SIZES | ends | family.config
    torch.manual_seed(seed)
    model = build_language_model(config)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    if config.get("tie_word_embeddings"):
        del state["lm_head.weight"]
    folder.mkdir(parents=True)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"architectures": [type(model).__name__], **config}))
    write_tokenizer(folder, name)
    return folder


def write_tokenizer(folder: Path, name: str) -> None:
    """Write tokenizer.json with merges as lists of two, as in recent files, and tokenizer_config.json."""
    content = json.loads(_tokenizer(name).to_str())
    merges = content["model"]["merges"]
    content["model"]["merges"] = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    content["model"]["ignore_merges"] = name.startswith("llama")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    settings = {"clean_up_tokenization_spaces": False, "model_max_length": 512, **FAMILIES[name].tokenizer}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_siglip2(folder: Path) -> Path:
    """Write a fixed-resolution SigLIP 2: SigLIP's classes and names, both halves in one file, bilinear resizing."""
    torch.manual_seed(1)
    tower = build_vision_tower(SIGLIP2_VISION, select_layer=-1, select_feature="cls_patch")
    text = {"text_model.embeddings.token_embedding.weight": torch.zeros(2, 2), "logit_scale": torch.zeros(1)}
    head = {"vision_model.head.probe": torch.zeros(1, 1, 16), "logit_bias": torch.zeros(1)}
    folder.mkdir(parents=True)
    save_file(tower.state_dict() | text | head, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"architectures": ["SiglipModel"], "model_type": "siglip", "vision_config": SIGLIP2_VISION}
    text_config = {"model_type": "siglip_text_model", "vocab_size": 256000, "projection_size": 16}
    (folder / "config.json").write_text(json.dumps(config | {"text_config": text_config}))
    preprocessing = {
        "image_processor_type": "SiglipImageProcessor",
        "do_convert_rgb": None,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 2,
        "rescale_factor": 1 / 255,
        "size": {"height": 32, "width": 32},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return folder


def _tokenizer(name: str) -> Tokenizer:
    family = FAMILIES[name]
    tokenizer = byte_level_bpe(models.BPE())  # Qwen's
    if name.startswith("llama"):
        split = pre_tokenizers.Split(Regex(LLAMA3_WORDS), behavior="isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    elif name == "smollm2":
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in family.special])
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in family.added])
    if name.startswith("llama"):
        bos = family.special[0]
        begin = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), begin])
    return tokenizer


def _id(tokenizer: Tokenizer, token: str | None) -> int | None:
    return None if token is None else tokenizer.token_to_id(token)
