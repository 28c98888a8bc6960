"""Language models: a causal LM of the LLaMA family (Qwen2 among it) through transformers, and its tokenizer."""

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from btcchat.checkpoint.config import AGAIN, read_config
from btcchat.checkpoint.schema import TokenizerConfig
from btcchat.errors import BTCChatError
from btcchat.language_model.qwen2 import Qwen2Config, Qwen2ForCausalLM, Qwen2TokenizerFast
from btcchat.limits.regular import regular
from btcchat.registry import Registry

logger = logging.getLogger(__name__)

# model_type of llm/config.json -> (config class, model class)
LANGUAGE_MODELS: Registry[tuple[type[LlamaConfig], type[LlamaForCausalLM]]] = Registry(
    "language model",
    {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    },
)

# tokenizer_class of tokenizer_config.json -> its class, where the pinned transformers has none
TOKENIZERS: dict[str | None, type[Any]] = dict.fromkeys(("Qwen2Tokenizer", "Qwen2TokenizerFast"), Qwen2TokenizerFast)

TOKENIZER_FILES = (
    "tokenizer.model", "tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json",
    "special_tokens_map.json",
)  # fmt: skip

# Weights old checkpoints carry and nothing uses: rotary frequencies follow from the config.
UNUSED_KEYS = [r".*\.rotary_emb\.inv_freq"]


# What transformers' classes raise for settings that they cannot use, e.g. a rope_scaling that they do not know.
_FAULTS = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError)


def build_language_model(config: Mapping[str, Any], *, attn_implementation: str = "sdpa") -> PreTrainedModel:
    """Build the causal LM that ``config`` (the contents of llm/config.json) describes, weights uninitialised or random.

    Raises BTCChatError for a model_type without a family here, or settings that transformers cannot use.
    """
    _, model_class = LANGUAGE_MODELS.find(config.get("model_type", "llama"))
    made = read_settings(config)
    try:
        positions, made.max_position_embeddings = made.max_position_embeddings, 1
        model = model_class._from_config(made, attn_implementation=attn_implementation)
        _share_rotary(model, positions)
    except _FAULTS as error:
        raise BTCChatError(f"llm/config.json: {type(error).__name__}: {' '.join(str(error).split())}") from None
    return model


def read_settings(config: Mapping[str, Any]) -> LlamaConfig:
    """The contents of llm/config.json as transformers' class. Raises BTCChatError as `build_language_model` does."""
    config_class, _ = LANGUAGE_MODELS.find(config.get("model_type", "llama"))
    settings = {k: v for k, v in config.items() if k not in ("torch_dtype", "dtype", "transformers_version")}
    try:
        return config_class(**_plain_rope(settings))
    except BTCChatError:
        raise
    except _FAULTS as error:
        raise BTCChatError(f"llm/config.json: {type(error).__name__}: {' '.join(str(error).split())}") from None


def _share_rotary(model: LlamaForCausalLM, positions: int) -> None:
    """One table of sines and cosines for all layers, in which they are equal; transformers makes one a layer."""
    model.config.max_position_embeddings = positions
    layers: list[Any] = [layer.self_attn for layer in model.model.layers]
    for attention in layers:
        attention.max_position_embeddings = positions
    layers[0]._init_rope()
    for attention in layers[1:]:
        attention.rotary_emb = layers[0].rotary_emb


def _plain_rope(settings: dict[str, Any]) -> dict[str, Any]:
    """``rope_parameters``, which newer transformers writes, as rope_theta and rope_scaling."""
    said = settings.pop("rope_parameters", None)
    if said is None:
        return settings
    rope = dict(said)
    kind = rope.pop("rope_type", "default")
    if "rope_theta" in rope:
        settings["rope_theta"] = rope.pop("rope_theta")
    if kind in ("linear", "dynamic"):
        return settings | {"rope_scaling": {"type": kind, **rope}}
    if kind != "default" or rope:
        raise BTCChatError(
            f"llm/config.json: rope_parameters is {said}, expected rope_theta and a rope_type of default, linear or "
            "dynamic; take another language model"
        )
    return settings


def pick_attention(device: str, dtype: torch.dtype, *, gradients: bool = False) -> str:
    """flash-attention 2 where it is installed and can run, else PyTorch's own scaled dot product attention.

    With ``gradients`` in bfloat16 on a CPU the products written out, which are faster (benchmarks/bf16_cpu.py).
    """
    flash = importlib.util.find_spec("flash_attn") is not None
    half = dtype in (torch.float16, torch.bfloat16)
    name = "flash_attention_2" if flash and half and device.startswith("cuda") else "sdpa"
    slow = gradients and dtype == torch.bfloat16 and device.startswith("cpu")
    if name == "sdpa" and (slow or not hasattr(torch.nn.functional, "scaled_dot_product_attention")):
        name = "eager"
    logger.info("attention: %s (device %s, %s)", name, device, dtype)
    return name


FILES = ("vocab_file", "merges_file", "tokenizer_file")  # of tokenizer_config.json


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of an llm/ folder: tokenizer.model as published with LLaMA, else tokenizer.json, else vocab.json.

    Raises BTCChatError where there is none of them.
    """
    names = ("tokenizer.model", "tokenizer.json", "vocab.json")
    if not any((folder / name).exists() for name in names):
        raise BTCChatError(f"{folder} has no tokenizer: expected {', '.join(names[:2])} or vocab.json with merges.txt")
    settings = folder / "tokenizer_config.json"
    config = read_config(settings, TokenizerConfig) if settings.exists() else {}
    # transformers would follow a path in the settings, whose author's machine it is of; the file beside them is meant.
    files = {key: str(folder / Path(config[key]).name) for key in FILES if isinstance(config.get(key), str)}
    slow = (folder / "tokenizer.model").exists()
    tokenizer_class = TOKENIZERS.get(config.get("tokenizer_class"), AutoTokenizer)
    try:
        for file in filter(Path.exists, (folder / name for name in TOKENIZER_FILES)):
            regular(file)
        tokenizer: PreTrainedTokenizerBase = tokenizer_class.from_pretrained(str(folder), use_fast=not slow, **files)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
        tokenizer("A text.")  # some faults show only now
    except BTCChatError:
        raise
    except Exception as error:  # noqa: BLE001 - the libraries raise Exception itself, and protobuf's own
        fault = " ".join(f"{type(error).__name__}: {error}".split())
        raise BTCChatError(f"{folder} has no tokenizer that can be read ({fault}); {AGAIN}") from None
    return tokenizer


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Raise BTCChatError where the language model's ``rows`` embeddings are too few for the tokenizer.

    Added tokens are not counted: published folders have some that no text of theirs uses.
    """
    if tokenizer.vocab_size > rows:
        raise BTCChatError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the language model embeddings of {rows} (vocab_size); "
            "use the tokenizer that the model was trained with"
        )
