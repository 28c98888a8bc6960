"""LLaMA's norm as one kernel on a GPU, instead of the eight that transformers launches."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import LlamaRMSNorm


class FusedRMSNorm(LlamaRMSNorm):
    """transformers' norm. On a GPU it skips the rounding to bfloat16 before the last step: a bit more exact."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        if not is_fused(hidden_states, self.weight):
            plain: Tensor = super().forward(hidden_states)
            return plain
        return F.rms_norm(hidden_states, self.weight.shape, self.weight, self.variance_epsilon)


def is_fused(x: Tensor, weight: Tensor) -> bool:
    """Whether to use torch's norm: on a GPU, with torch from 2.4, and equal dtypes."""
    return x.device.type == "cuda" and x.dtype == weight.dtype and hasattr(torch.nn.functional, "rms_norm")


def fuse_norms(model: nn.Module) -> None:
    """Make every `LlamaRMSNorm` of a model a `FusedRMSNorm`; the weights do not change."""
    for module in model.modules():
        if type(module) is LlamaRMSNorm:
            module.__class__ = FusedRMSNorm
