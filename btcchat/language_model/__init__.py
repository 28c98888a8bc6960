"""Language models: a causal LM of the LLaMA family (including Qwen2 and Qwen3) through transformers."""

import copy
import importlib.util
import logging
from collections.abc import Mapping
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PretrainedConfig, PreTrainedModel

from btcchat.compat.configs import published_rope, rope_kind, rope_kinds, setting_faults
from btcchat.compat.families import NEWER, check_release, newer_families
from btcchat.compat.rotary import build_with_one_table
from btcchat.errors import BTCChatError
from btcchat.language_model.norms import fuse_norms
from btcchat.language_model.qwen2 import Qwen2Config, Qwen2ForCausalLM
from btcchat.registry import Registry

logger = logging.getLogger(__name__)

# model_type of llm/config.json -> (config class, model class)
LANGUAGE_MODELS: Registry[tuple[type[PretrainedConfig], type[PreTrainedModel]]] = Registry(
    "language model",
    {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        **newer_families(),
    },
)

# Weights in old checkpoints that nothing uses: rotary frequencies follow from the config.
UNUSED_KEYS = [r".*\.rotary_emb\.inv_freq"]


def build_language_model(config: Mapping[str, Any], *, attn_implementation: str = "sdpa") -> PreTrainedModel:
    """Build the causal LM that ``config`` (the contents of llm/config.json) describes, with unset or random weights.

    Raises BTCChatError for an unknown model_type, or settings that transformers cannot use.
    """
    _, model_class = _family(config)
    made = read_settings(config)
    try:
        model = build_with_one_table(model_class, made, attn_implementation)
    except setting_faults() as error:
        raise BTCChatError(f"llm/config.json: {type(error).__name__}: {' '.join(str(error).split())}") from None
    fuse_norms(model)
    return model


def is_family(model_type: str | None) -> bool:
    """Whether ``model_type`` is a language model's, even if only a newer transformers has its classes."""
    return model_type in LANGUAGE_MODELS or model_type in NEWER


def _family(config: Mapping[str, Any]) -> tuple[type[PretrainedConfig], type[PreTrainedModel]]:
    name = config.get("model_type", "llama")
    check_release(name)
    return LANGUAGE_MODELS.find(name)


def read_settings(config: Mapping[str, Any]) -> PretrainedConfig:
    """The contents of llm/config.json as a transformers config. Raises BTCChatError as `build_language_model` does."""
    config_class, _ = _family(config)
    if config.get("use_sliding_window"):
        raise BTCChatError("the language model's use_sliding_window is true; only full attention is supported")
    unused = ("torch_dtype", "dtype", "transformers_version")
    # A copy, as transformers 5 changes rope_scaling.
    settings = copy.deepcopy({name: value for name, value in config.items() if name not in unused})
    try:
        return config_class(**_plain_rope(settings))
    except BTCChatError:
        raise
    except setting_faults() as error:
        raise BTCChatError(f"llm/config.json: {type(error).__name__}: {' '.join(str(error).split())}") from None


def _plain_rope(settings: dict[str, Any]) -> dict[str, Any]:
    """Rotary settings as rope_theta and rope_scaling, which every version reads; newer ones write rope_parameters."""
    field = "rope_scaling" if settings.get("rope_parameters") is None else "rope_parameters"
    rope, known = settings.get(field) or {}, rope_kinds()
    kind = rope_kind(rope) if isinstance(rope, dict) else None
    if kind not in known or (kind == "default" and rope.keys() - {"type", "rope_type", "rope_theta"}):
        raise BTCChatError(
            f"llm/config.json: {field} is {rope}, expected rope_theta and a rope_type of {', '.join(sorted(known))}; "
            "use another language model, or a newer transformers"
        )
    return published_rope(settings)


def pick_attention(device: str, dtype: torch.dtype, *, gradients: bool = False) -> str:
    """flash-attention 2 if it is installed and can run, else PyTorch's scaled dot product attention.

    With ``gradients`` in bfloat16 on a CPU, explicit matrix products, which are faster (benchmarks/bf16_cpu.py).
    """
    half = dtype in (torch.float16, torch.bfloat16)
    flash = half and device.startswith("cuda") and importlib.util.find_spec("flash_attn") is not None
    # The package can be installed for, but not run on, a GPU before Ampere.
    name = "flash_attention_2" if flash and torch.cuda.get_device_capability(device) >= (8, 0) else "sdpa"
    slow = gradients and dtype == torch.bfloat16 and device.startswith("cpu")
    if name == "sdpa" and (slow or not hasattr(torch.nn.functional, "scaled_dot_product_attention")):
        name = "eager"
    logger.info("attention: %s (device %s, %s)", name, device, dtype)
    return name
