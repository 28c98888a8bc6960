"""Language models: a causal LM of the LLaMA family through transformers, and its tokenizer."""

import importlib.util
import logging
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from btcchat.errors import BTCChatError, choose

logger = logging.getLogger(__name__)

# model_type of llm/config.json -> (config class, model class)
LANGUAGE_MODELS = {"llama": (LlamaConfig, LlamaForCausalLM)}

# Weights old checkpoints carry and nothing uses: rotary frequencies follow from the config.
UNUSED_KEYS = [r".*\.rotary_emb\.inv_freq"]


def build_language_model(config: dict, *, attn_implementation: str = "sdpa") -> PreTrainedModel:
    """Build the causal LM that ``config`` (the contents of llm/config.json) describes, weights uninitialised or random.

    Raises BTCChatError for a model_type without a family here.
    """
    config_class, model_class = choose("language model", config.get("model_type", "llama"), LANGUAGE_MODELS)
    settings = {k: v for k, v in config.items() if k not in ("torch_dtype", "dtype", "transformers_version")}
    return model_class._from_config(config_class(**settings), attn_implementation=attn_implementation)


def pick_attention(device: str, dtype: torch.dtype) -> str:
    """flash-attention 2 where it is installed and can run, else PyTorch's own scaled dot product attention."""
    flash = importlib.util.find_spec("flash_attn") is not None
    half = dtype in (torch.float16, torch.bfloat16)
    name = "flash_attention_2" if flash and half and device.startswith("cuda") else "sdpa"
    if name == "sdpa" and not hasattr(torch.nn.functional, "scaled_dot_product_attention"):
        name = "eager"
    logger.info("attention: %s (device %s, %s)", name, device, dtype)
    return name


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of an llm/ folder: SentencePiece (tokenizer.model) as published, else tokenizer.json."""
    if not (folder / "tokenizer.model").exists() and not (folder / "tokenizer.json").exists():
        raise BTCChatError(f"{folder} has no tokenizer: expected tokenizer.model or tokenizer.json")
    slow = (folder / "tokenizer.model").exists()
    tokenizer = AutoTokenizer.from_pretrained(str(folder), use_fast=not slow)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer
