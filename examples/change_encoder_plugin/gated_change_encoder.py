"""A change encoder as a btcchat plugin: the later date, plus what a gate lets through where the two dates differ."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from btcchat import BTCChatError
from btcchat.change_encoder import CHANGE_ENCODERS


class GatedEncoder(nn.Module):
    """``(P, 2, S, L, C)`` -> ``(P, 1, L', C)``: pairs, dates (0 is *before*), depths, L = g x g tokens, channels.

    width: channels of the gate at each depth. pool: side of the squares of tokens that are averaged, so that a pair has
    L' = (g / pool) ** 2 tokens; 1 averages none. Raises BTCChatError if pool does not divide g.
    """

    segments = 1  # image placeholders of a pair in the prompt

    def __init__(self, *, hidden_size: int, grid: int, num_depths: int, width: int = 256, pool: int = 1):
        super().__init__()
        if pool < 1 or grid % pool:
            raise BTCChatError(f"pool is {pool}, expected a divisor of the grid of {grid}x{grid} tokens")
        self.grid, self.pool = grid, pool
        self.depths = nn.ModuleList(GatedDepth(hidden_size, width) for _ in range(num_depths))
        self.depth_weights = nn.Parameter(torch.full((num_depths,), 1 / num_depths))

    def num_tokens(self, count: int) -> int:
        """L' for ``count`` = L tokens of a date."""
        return count // self.pool**2

    def forward(self, features: Tensor) -> Tensor:
        before, after = features.unbind(1)  # (P, S, L, C) each
        change = torch.stack([depth(before[:, s], after[:, s]) for s, depth in enumerate(self.depths)], dim=-1)
        tokens = after[:, -1] + change @ self.depth_weights  # (P, L, C)
        maps = tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid))  # (P, C, g, g)
        return F.avg_pool2d(maps, self.pool).flatten(2).transpose(1, 2)[:, None]  # (P, 1, L', C)

    def distance(self, features: Tensor) -> Tensor:
        """For change maps: how far the gates are open, float32 ``(P, g, g)`` in 0..1."""
        before, after = features.unbind(1)
        gates = torch.stack([depth.gate(before[:, s], after[:, s]) for s, depth in enumerate(self.depths)])
        return gates.float().mean(dim=(0, -1)).unflatten(1, (self.grid, self.grid))


class GatedDepth(nn.Module):
    """One depth of both dates, ``(P, L, C)`` twice -> ``(P, L, C)``."""

    def __init__(self, hidden_size: int, width: int):
        super().__init__()
        self.difference = nn.Linear(hidden_size, width, bias=False)  # without a bias, equal dates shut the gate
        self.dates = nn.Linear(2 * hidden_size, width)
        self.out = nn.Linear(width, hidden_size)

    def gate(self, before: Tensor, after: Tensor) -> Tensor:
        """``(P, L, width)``: 0 (shut) where the dates are equal, up to 1 (open)."""
        size = (0.5 * (before.square() + after.square()).mean(-1, keepdim=True) + 1e-6).sqrt()  # of a token, (P, L, 1)
        return (self.difference(after - before) / size).abs().tanh()

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        dates = F.gelu(self.dates(torch.cat([before, after], dim=-1)))  # (P, L, width)
        return self.out(self.gate(before, after) * dates)


CHANGE_ENCODERS["gated"] = GatedEncoder  # the name for --chg_type
