"""A change encoder from outside the package, as a user would write it."""

import torch
from torch import Tensor, nn


class OwnEncoder(nn.Module):
    """``(P, 2, S, L, C)`` -> ``(P, 1, L, C)``: a linear layer over the dates' last depth, times ``gain``."""

    segments = 1

    def __init__(self, *, hidden_size: int, grid: int, num_depths: int, gain: float = 1.0):
        super().__init__()
        self.gain = gain
        self.fuse = nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        before, after = features[:, :, -1].unbind(1)
        return self.gain * self.fuse(torch.cat([before, after], dim=-1))[:, None]
