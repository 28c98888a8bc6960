"""Families of language models that only newer releases of transformers have; the classes are transformers' own."""

from typing import Any

import transformers

from btcchat.errors import BTCChatError

# model_type -> (first release, config class, model class)
NEWER = {
    "qwen3": ("4.51", "Qwen3Config", "Qwen3ForCausalLM"),  # LLaMA with norms on queries and keys (arXiv:2505.09388)
}


def newer_families() -> dict[str, tuple[type[Any], type[Any]]]:
    """model_type -> (config class, model class), for those that the installed transformers has."""
    return {
        name: (getattr(transformers, config), getattr(transformers, model))
        for name, (_, config, model) in NEWER.items()
        if hasattr(transformers, config)
    }


def check_release(model_type: str) -> None:
    """Raise BTCChatError if a family needs a newer transformers than the installed one."""
    if model_type in NEWER and not hasattr(transformers, NEWER[model_type][1]):
        raise BTCChatError(
            f"language model '{model_type}' needs transformers {NEWER[model_type][0]} or newer, but "
            f"{transformers.__version__} is installed; install a newer one: pip install -U 'transformers<6'"
        )
