"""Functions that torch has had since 2.4 and 2.5; without them a slower or older way is taken."""

from typing import Any

import torch


def has_fast_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16; False where torch (before 2.5) cannot say."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())


def allow_globals(names: list[Any]) -> None:
    """Let ``torch.load(weights_only=True)`` read these; torch before 2.4, where it is not the default, reads all."""
    if hasattr(torch.serialization, "add_safe_globals"):
        torch.serialization.add_safe_globals(names)
