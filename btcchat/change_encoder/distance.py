"""How far apart two dates' features are."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cosine(before: Tensor, after: Tensor) -> Tensor:
    """Cosine similarity over the last dimension, at least in float32: half precision cannot resolve small changes."""
    dtype = torch.promote_types(before.dtype, torch.float32)
    return F.cosine_similarity(before.to(dtype), after.to(dtype), dim=-1, eps=1e-8)


def cosine_distance(before: Tensor, after: Tensor) -> Tensor:
    """``(..., L, C)`` twice -> ``(..., g, g)`` in 0..1: 0 the same direction, 1 the opposite one; L = g x g."""
    distance = (1 - cosine(before, after)) / 2
    grid = round(distance.shape[-1] ** 0.5)
    field: Tensor = distance.unflatten(-1, (grid, grid))
    return field


def last_depth_distance(features: Tensor) -> Tensor:
    """``(P, 2, S, L, C)`` -> float32 ``(P, g, g)`` in 0..1: the distance of the vision tower's own features."""
    return cosine_distance(features[:, 0, -1], features[:, 1, -1])
