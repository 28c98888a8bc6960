"""A frozen vision tower in a mixed-precision run, computed as at inference: in bfloat16 throughout."""

import copy

import torch
from torch import Tensor, nn


class FrozenTower:
    """``tower(pixel_values)``, without gradients, computed by a copy of its weights in bfloat16.

    Autocast would cast every weight again in each forward (it keeps the casts of trained weights only), and pass
    float32 from block to block. The copy takes half of the tower's memory. The tower itself is unchanged, and it is
    the one that is saved.
    """

    def __init__(self, tower: nn.Module) -> None:
        self.tower = copy.deepcopy(tower).requires_grad_(False).to(torch.bfloat16).eval()

    @torch.no_grad()
    def __call__(self, pixel_values: Tensor) -> list[Tensor]:
        with torch.autocast(pixel_values.device.type, enabled=False):
            depths: list[Tensor] = self.tower(pixel_values)  # S x (N, L, C)
            return depths
