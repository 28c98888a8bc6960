"""Qwen2 (Yang et al. 2024, arXiv:2407.10671) on a transformers that has only LLaMA.

Its arithmetic is LLaMA's but for biases on the projections of queries, keys and values. The tokenizer is byte-level
BPE; a folder holds it as tokenizer.json, or as vocab.json and merges.txt.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from btcchat.errors import BTCChatError
from btcchat.files import read_json

# How a text is cut into words before BPE: contractions, letters, single digits, punctuation, line ends, spaces.
# The pattern of the published tokenizer.json.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


# What a config.json leaves out, where it is not LLaMA's: the published Qwen2Config's.
DEFAULTS = {
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "bos_token_id": None,
    "eos_token_id": None,
}


class Qwen2Config(LlamaConfig):
    """llm/config.json of model_type qwen2."""

    model_type = "qwen2"

    def __init__(self, use_sliding_window: bool = False, **settings: Any):
        if use_sliding_window:
            raise BTCChatError("the language model's use_sliding_window is true; only full attention is supported")
        super().__init__(**DEFAULTS | settings)


class Qwen2ForCausalLM(LlamaForCausalLM):
    """LLaMA with biases on q_proj, k_proj and v_proj."""

    config_class = Qwen2Config

    def __init__(self, config: Qwen2Config):
        super().__init__(config)
        for layer in self.model.layers:
            for name in ("q_proj", "k_proj", "v_proj"):
                plain = getattr(layer.self_attn, name)
                setattr(layer.self_attn, name, nn.Linear(plain.in_features, plain.out_features))
        self.post_init()


class Qwen2TokenizerFast(PreTrainedTokenizerFast):
    """Reads tokenizer.json, or where there is none vocab.json and merges.txt."""

    vocab_files_names = {"tokenizer_file": "tokenizer.json", "vocab_file": "vocab.json", "merges_file": "merges.txt"}
    slow_tokenizer_class = None

    def __init__(
        self,
        tokenizer_file: str | None = None,
        vocab_file: str | None = None,
        merges_file: str | None = None,
        **options: Any,
    ):
        if options.get("tokenizer_object") is None:
            try:
                if tokenizer_file is not None:
                    options["tokenizer_object"] = read_tokenizer(Path(tokenizer_file))
                else:
                    options["tokenizer_object"] = byte_level_bpe(models.BPE.from_file(vocab_file, merges_file))
            except BTCChatError:
                raise
            except Exception as error:  # noqa: BLE001 - the tokenizers library raises nothing more special
                what = tokenizer_file or f"{vocab_file} with {merges_file}"
                told = " ".join(f"{type(error).__name__}: {error}".split())
                raise BTCChatError(f"{what} is no tokenizer ({told}); download or save it again") from None
        special = dict.fromkeys(("unk_token", "bos_token"))  # none, unless the folder says one
        super().__init__(**{**special, "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", **options})

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write vocab.json and merges.txt, which the published code reads."""
        return tuple(self.backend_tokenizer.model.save(save_directory, filename_prefix))


def byte_level_bpe(model: models.BPE) -> Tokenizer:
    """The published pipeline around a vocabulary."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def read_tokenizer(file: Path) -> Tokenizer:
    """A tokenizer.json; later versions of tokenizers write each merge as a list of two, the pinned one reads a line."""
    content = read_json(file, "model", way_out="download or save the checkpoint again")
    merges = content["model"].get("merges", [])
    content["model"]["merges"] = [" ".join(merge) if isinstance(merge, list) else merge for merge in merges]
    return Tokenizer.from_str(json.dumps(content))
