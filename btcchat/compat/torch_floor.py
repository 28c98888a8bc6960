"""A function that torch has had since 2.5; older versions take a slower path."""

import torch


def has_fast_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16; False if torch (before 2.5) cannot tell."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())
