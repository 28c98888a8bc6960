"""The loss of the language model, with the logits of few tokens at a time."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

# Logits, in float32, that exist together: of 262 tokens of a vocabulary of 32,000 on the CPU, of 4,194 on a GPU
LOGITS, LOGITS_ON_GPU = 2**23, 2**27


def mean_loss(head: nn.Module, hidden: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy of tokens ``target`` (n,) under ``head(hidden)``, hidden (n, D), in float32.

    smoothing: the share of each target, 0 to 1, that is spread over the whole vocabulary.

    The logits of more tokens than `rows_together` are computed a part at a time, and again on the way back; not of
    weights that ZeRO-3 has split (``ds_id``), which are whole only while a module runs.
    """
    rows = rows_together(head, hidden.device)
    if len(target) <= rows or hasattr(head.weight, "ds_id"):
        return F.cross_entropy(head(hidden).float(), target, label_smoothing=smoothing)
    parts = zip(hidden.split(rows), target.split(rows), strict=True)
    sums = [checkpoint(_sum, head, *part, smoothing, use_reentrant=False, preserve_rng_state=False) for part in parts]
    return torch.stack(sums).sum() / len(target)


def rows_together(head: nn.Module, device: torch.device) -> int:
    """Tokens whose logits exist together: more on a GPU, where each part is a start of many kernels."""
    return max(1, (LOGITS if device.type == "cpu" else LOGITS_ON_GPU) // len(head.get_parameter("weight")))


def _sum(head: nn.Module, hidden: Tensor, target: Tensor, smoothing: float) -> Tensor:
    return F.cross_entropy(head(hidden).float(), target, reduction="sum", label_smoothing=smoothing)
