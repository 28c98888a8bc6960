"""AttentiveEncoder of BTCChat and UniRS, after Chg2Cap (Chang and Ghamisi 2023, arXiv:2304.01091).

The parameter names are the published ones. Published weights also need some surprising steps: values from the key
projection, row and column embeddings with swapped names, and residuals around whole layers.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from btcchat.change_encoder.distance import cosine, cosine_distance
from btcchat.errors import BTCChatError
from btcchat.layers.bf16_cpu import attention

# Patterns of published keys that no forward uses.
UNUSED_KEYS = [r"selftrans\.\d+\.\d+\.att\.to_v\.weight"]

ATTENTION_WIDTH = 512  # fixed in the published code, whatever the width of the tokens


class AttentiveEncoder(nn.Module):
    """``(P, 2, 1, L, C)`` -> ``(P, 1, L, C)``: fuse two dates by attention, cosine similarity and convolutions.

    It has ``cc_n_layers`` self-transformer layers with ``cc_head`` heads and the dropout probability ``cc_dropout``.
    Raises BTCChatError for sizes that do not fit, and for features of another shape.
    """

    segments = 1

    def __init__(
        self,
        *,
        hidden_size: int,
        grid: int,
        num_depths: int = 1,
        cc_n_layers: int = 0,
        cc_head: int = 8,
        cc_dropout: float = 0.0,
    ):
        super().__init__()
        if num_depths != 1:
            raise BTCChatError(
                f"change encoder 'attentive' takes one depth, got {num_depths}; "
                "set mm_vision_select_layer to one layer, or choose another change encoder"
            )
        if hidden_size % 2:
            raise BTCChatError(
                f"change encoder 'attentive' needs an even hidden size, got {hidden_size}; choose another vision tower"
            )
        if cc_head < 1 or ATTENTION_WIDTH % cc_head:
            raise BTCChatError(
                f"cc_head {cc_head} does not divide the attention width of {ATTENTION_WIDTH}; choose a power of two"
            )
        self.grid = grid
        self.h_embedding = nn.Embedding(grid, hidden_size // 2)
        self.w_embedding = nn.Embedding(grid, hidden_size // 2)
        for embedding in (self.h_embedding, self.w_embedding):
            nn.init.normal_(embedding.weight, std=0.02)  # torch's 1.0, added to both dates, would dominate their cosine
        self.selftrans = nn.ModuleList(
            nn.ModuleList(
                [
                    TransformerBlock(hidden_size, hidden_size, cc_head, cc_dropout),  # within a date
                    TransformerBlock(2 * hidden_size, hidden_size, cc_head, cc_dropout),  # across the dates
                ]
            )
            for _ in range(cc_n_layers)
        )
        self.Conv1 = nn.Conv2d(2 * hidden_size, hidden_size, kernel_size=1)
        self.LN = ResidualCNN(hidden_size)  # "LN" is its published name; it normalises by BatchNorm

    def forward(self, features: Tensor) -> Tensor:
        dates = self._attend(features)  # (P, 2, L, C)
        alike = cosine(dates[:, 0], dates[:, 1])  # (P, L)
        both = torch.cat([dates[:, 0], dates[:, 1]], dim=-1) + alike.to(dates.dtype)[..., None]  # (P, L, 2C)
        # As a map with channels last: a view without a copy, in the layout that suits convolutions best.
        both = both.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)  # (P, 2C, g, g)
        change: Tensor = self.LN(self.Conv1(both))  # (P, C, g, g)
        return change.permute(0, 2, 3, 1).flatten(1, 2)[:, None]  # (P, 1, L, C)

    def cosine_field(self, features: Tensor) -> Tensor:
        """``(P, 2, 1, L, C)`` -> float32 ``(P, g, g)`` in -1..1: cosine similarity of the two dates after attention."""
        return 1 - 2 * self.distance(features)

    def distance(self, features: Tensor) -> Tensor:
        """``(P, 2, 1, L, C)`` -> float32 ``(P, g, g)`` in 0..1: how far apart the two dates are after attention."""
        dates = self._attend(features)
        return cosine_distance(dates[:, 0], dates[:, 1])

    def _attend(self, features: Tensor) -> Tensor:
        if features.shape[1:3] != (2, 1) or features.shape[3] != self.grid**2:
            raise BTCChatError(
                f"change encoder 'attentive': got features (P, dates, depths, tokens, C) = {tuple(features.shape)}, "
                f"expected 2 dates, 1 depth, {self.grid}x{self.grid} tokens; if one is missing, set "
                "mm_vision_select_feature to 'cls_patch'"
            )
        start = features[:, :, 0] + self._position(features.device)  # (P, 2, L, C)
        dates = start
        layers: Any = self.selftrans  # torch types what it iterates over as Module
        for within_date, across_dates in layers:
            dates = within_date(dates.flatten(0, 1)).view_as(dates) + dates
            joint = dates.transpose(1, 2).flatten(2)  # (P, L, 2C)
            joint = across_dates(joint)
            dates = joint.unflatten(2, (2, -1)).transpose(1, 2) + start  # (P, 2, L, C)
        return dates

    def _position(self, device: torch.device) -> Tensor:
        """``(L, C)``; the embedding named h is looked up by column, the one named w by row."""
        places = torch.arange(self.grid, device=device)
        by_column = self.h_embedding(places)[None, :, :].expand(self.grid, -1, -1)  # (rows, columns, C/2)
        by_row = self.w_embedding(places)[:, None, :].expand(-1, self.grid, -1)
        return torch.cat([by_column, by_row], dim=-1).flatten(0, 1)


class TransformerBlock(nn.Module):
    """Post-norm block ``(N, L, width)`` -> ``(N, L, width)`` with a ReLU feed-forward."""

    def __init__(self, width: int, hidden: int, heads: int, dropout: float):
        super().__init__()
        self.att = Attention(width, heads, dropout)
        self.feedforward = FeedForward(width, hidden, dropout)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(self.att(x) + x)
        x = self.norm2(self.feedforward(x) + x)
        return x


class Attention(nn.Module):
    """Self-attention whose values are its keys."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, ATTENTION_WIDTH, bias=False)
        self.to_k = nn.Linear(width, ATTENTION_WIDTH, bias=False)
        self.to_out = nn.Sequential(nn.Linear(ATTENTION_WIDTH, width), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        q = self.to_q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, heads, L, 512/heads)
        k = self.to_k(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        x = self.to_out(attention(q, k, k).transpose(1, 2).flatten(2))
        return x


class FeedForward(nn.Module):
    """Two linear layers with ReLU between."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.net(x)
        return x


class ResidualCNN(nn.Module):
    """Residual bottleneck of 1x1, 3x3 and 1x1 convolutions, ``(P, C, g, g)`` -> ``(P, C, g, g)``."""

    def __init__(self, width: int):
        super().__init__()
        half = width // 2
        self.left = nn.Sequential(
            nn.Conv2d(width, half, kernel_size=1),
            BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, half, kernel_size=3, padding=1),
            BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, width, kernel_size=1),
            BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.left(x) + x)


class BatchNorm2d(nn.BatchNorm2d):
    """torch's, also for weights of lower precision than the running statistics, as DeepSpeed has them in bf16."""

    # torch's annotations allow None, for layers without running statistics or with a cumulative average.
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = (parameter.to(self.running_mean.dtype) for parameter in (self.weight, self.bias))
        if self.training:
            self.num_batches_tracked.add_(1)
        return F.batch_norm(
            x, self.running_mean, self.running_var, weight, bias, self.training, self.momentum, self.eps
        )
