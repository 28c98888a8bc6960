"""A frozen vision tower in a run of mixed precision, computed as it is when it answers: in bfloat16 throughout."""

import copy

import torch
from torch import Tensor, nn


class FrozenTower:
    """``tower(pixel_values)``, without gradients, by a copy of its weights in bfloat16.

    Autocast would cast every weight anew in each forward (it keeps the casts of trained weights only), and pass float32
    from block to block. The copy takes half of the tower's memory. The tower stays as it is, and is what is saved.
    """

    def __init__(self, tower: nn.Module):
        self.tower = copy.deepcopy(tower).requires_grad_(False).to(torch.bfloat16).eval()

    @torch.no_grad()
    def __call__(self, pixel_values: Tensor) -> list[Tensor]:
        with torch.autocast(pixel_values.device.type, enabled=False):
            return self.tower(pixel_values)
