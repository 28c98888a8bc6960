"""The loss of the language model, computed for a few tokens' logits at a time."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

# float32 logits in memory at once: with a vocabulary of 32,000, those of 262 tokens on the CPU, of 4,194 on a GPU
LOGITS, LOGITS_ON_GPU = 2**23, 2**27


def mean_loss(head: nn.Module, hidden: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy of tokens ``target`` (n,) under ``head(hidden)``, hidden (n, D), in float32.

    smoothing: the share of each target, 0 to 1, that is spread over the whole vocabulary.

    The logits of more tokens than `rows_together` are computed in parts, and again in the backward pass, except if
    ZeRO-3 has split the weights (``ds_id``), which are complete only while a module runs.
    """
    rows = rows_together(head, hidden.device)
    if len(target) <= rows or hasattr(head.weight, "ds_id"):
        return F.cross_entropy(head(hidden).float(), target, label_smoothing=smoothing)
    parts = zip(hidden.split(rows), target.split(rows), strict=True)
    sums = [checkpoint(_sum, head, *part, smoothing, use_reentrant=False, preserve_rng_state=False) for part in parts]
    return torch.stack(sums).sum() / len(target)


def rows_together(head: nn.Module, device: torch.device) -> int:
    """Tokens whose logits are in memory at once: more on a GPU, where each part launches many kernels."""
    return max(1, (LOGITS if device.type == "cpu" else LOGITS_ON_GPU) // len(head.get_parameter("weight")))


def _sum(head: nn.Module, hidden: Tensor, target: Tensor, smoothing: float) -> Tensor:
    return F.cross_entropy(head(hidden).float(), target, reduction="sum", label_smoothing=smoothing)
