"""A change encoder as a btcchat plugin: a gate opens where the two dates differ."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from btcchat import BTCChatError
from btcchat.change_encoder import CHANGE_ENCODERS


class GatedEncoder(nn.Module):
    """``(P, 2, S, L, C)`` -> ``(P, 1, L', C)``: what both dates show, let through where they differ.

    P pairs, 2 dates (0 is *before*), S depths of the vision tower, L = g x g tokens of C channels. In the prompt a pair
    is one segment of L' = (g / pool) ** 2 tokens.

    width: channels of the gate, at each depth. pool: side of the squares of tokens that are averaged; 1 averages none.
    """

    segments = 1  # placeholders that a pair has in the prompt

    def __init__(self, *, hidden_size: int, grid: int, num_depths: int, width: int = 64, pool: int = 1):
        super().__init__()
        if pool < 1 or grid % pool:
            raise BTCChatError(f"pool is {pool}, expected a divisor of the grid of {grid}x{grid} tokens")
        self.grid, self.pool = grid, pool
        self.depths = nn.ModuleList(GatedDepth(hidden_size, width) for _ in range(num_depths))
        self.depth_weights = nn.Parameter(torch.full((num_depths,), 1 / num_depths))
        self.norm = nn.LayerNorm(hidden_size)

    def num_tokens(self, count: int) -> int:
        """L' for ``count`` = L tokens of a date."""
        return count // self.pool**2

    def forward(self, features: Tensor) -> Tensor:
        before, after = features.unbind(1)  # (P, S, L, C) each
        change = torch.stack(
            [depth(before[:, s], after[:, s]) for s, depth in enumerate(self.depths)], dim=1
        )  # (P, S, L, C)
        tokens = self.norm((self.depth_weights[:, None, None] * change).sum(1))  # (P, L, C)
        maps = tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid))  # (P, C, g, g)
        return F.avg_pool2d(maps, self.pool).flatten(2).transpose(1, 2)[:, None]  # (P, 1, L', C)

    def distance(self, features: Tensor) -> Tensor:
        """For change maps: how far the gates are open, float32 ``(P, g, g)`` in 0..1."""
        before, after = features.unbind(1)
        gates = torch.stack([depth.gate(before[:, s], after[:, s]).mean(-1) for s, depth in enumerate(self.depths)])
        return gates.float().mean(0).unflatten(1, (self.grid, self.grid))


class GatedDepth(nn.Module):
    """One depth of both dates, ``(P, L, C)`` twice -> ``(P, L, C)``."""

    def __init__(self, hidden_size: int, width: int):
        super().__init__()
        self.difference = nn.Linear(hidden_size, width, bias=False)  # without a bias equal dates shut the gate
        self.dates = nn.Linear(2 * hidden_size, width)
        self.out = nn.Linear(width, hidden_size)

    def gate(self, before: Tensor, after: Tensor) -> Tensor:
        """``(P, L, width)``: 0 (shut) where the dates are alike, up to 1 (open)."""
        return self.difference(after - before).abs().tanh()

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        dates = self.dates(torch.cat([before, after], dim=-1))  # (P, L, width)
        return self.out(self.gate(before, after) * dates)


CHANGE_ENCODERS["gated"] = GatedEncoder  # the name that --chg_type takes
