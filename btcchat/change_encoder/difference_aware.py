"""The change encoder of CCExpert (Wang et al. 2024, arXiv:2411.11360), with its published parameter names.

At each depth of the vision tower, a stream of change tokens is computed from both dates and refines them in turn; a
gate then weights the depths.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from btcchat.errors import BTCChatError

# Patterns of published keys that no forward uses.
UNUSED_KEYS = [r"layers\.\d+\.norm4\..*", r"ChangeAwareTokenReduce\.(change_for_key_proj|cross_attn)\..*"]

HEAD_WIDTH = 128  # channels of an attention head, fixed in the published code


class DifferenceAwareEncoder(nn.Module):
    """``(P, 2, S, L, C)`` -> ``(P, 2, L', C)``: the tokens of both dates, refined by what changed between them.

    ``per_expert_depth`` blocks with an MLP of ``mlp_dim`` channels (None: 4C) are shared by all depths. Squares of
    ``downsample_ratio`` x ``downsample_ratio`` tokens are averaged; published models have 1, and L' = L.
    Raises BTCChatError for sizes that do not fit, and for features of another shape.
    """

    segments = 2

    def __init__(
        self,
        *,
        hidden_size: int,
        grid: int,
        num_depths: int,
        per_expert_depth: int = 2,
        mlp_dim: int | None = None,
        downsample_ratio: int = 1,
    ):
        super().__init__()
        heads = max(hidden_size // HEAD_WIDTH, 1)
        if hidden_size % 4 or hidden_size % heads:
            raise BTCChatError(
                f"change encoder 'difference_aware' needs a hidden size divisible by 4 and by its number of heads, "
                f"{heads}, got {hidden_size}; choose another vision tower"
            )
        if per_expert_depth < 1:
            raise BTCChatError(f"per_expert_depth is {per_expert_depth}, expected 1 or more")
        if downsample_ratio < 1 or grid % downsample_ratio:
            raise BTCChatError(
                f"downsample_ratio {downsample_ratio} does not divide the {grid}x{grid} tokens; use a divisor of {grid}"
            )
        self.grid, self.downsample_ratio = grid, downsample_ratio
        self.expert_change_feature_extractor_model = ChangeExtractor(hidden_size)
        self.layers = nn.ModuleList(Block(hidden_size, mlp_dim or 4 * hidden_size) for _ in range(per_expert_depth))
        self.ChangeAwareTokenReduce = DepthGate(hidden_size)
        self.apply(_reset)

    def forward(self, features: Tensor) -> Tensor:
        return self.streams(features)[:, :2]

    def streams(self, features: Tensor) -> Tensor:
        """``(P, 2, S, L, C)`` -> ``(P, 3, L', C)``: before, after, and change tokens, not for the prompt."""
        if features.shape[1] != 2 or features.shape[3] != self.grid**2:
            raise BTCChatError(
                f"change encoder 'difference_aware': got features (P, dates, depths, tokens, C) = "
                f"{tuple(features.shape)}, expected 2 dates, {self.grid}x{self.grid} tokens; if one is missing, set "
                "mm_vision_select_feature to 'cls_patch'"
            )
        pairs, _, depths = features.shape[:3]
        position = sine_position(self.grid, features.shape[-1]).to(features)  # (L, C)
        dates = features.transpose(1, 2).flatten(0, 1)  # (P*S, 2, L, C): each depth on its own
        queries: Tensor | None = None
        for layer in self.layers:
            change = self.expert_change_feature_extractor_model(dates)  # (P*S, L, C)
            queries = change if queries is None else queries + change
            dates, queries = layer(dates, queries, position)
        assert queries is not None  # there is a layer: per_expert_depth is checked above
        streams = torch.cat([dates, queries[:, None]], dim=1).unflatten(0, (pairs, depths))  # (P, S, 3, L, C)
        before, after, change = self.ChangeAwareTokenReduce(streams).unbind(1)
        last = features[:, :, -1]  # (P, 2, L, C), as it came from the tower
        return self._pool(torch.stack([before + last[:, 0], after + last[:, 1], change], dim=1))

    def num_tokens(self, count: int) -> int:
        """L': the tokens of a segment, for ``count`` = L tokens of a date."""
        return (self.grid // self.downsample_ratio) ** 2

    def _pool(self, streams: Tensor) -> Tensor:
        """``(P, 3, L, C)`` -> ``(P, 3, L', C)``."""
        if self.downsample_ratio == 1:
            return streams
        maps = streams.flatten(0, 1).transpose(1, 2).unflatten(2, (self.grid, self.grid))  # (P*3, C, g, g)
        tokens = F.avg_pool2d(maps, self.downsample_ratio).flatten(2).transpose(1, 2)
        streams = tokens.unflatten(0, streams.shape[:2])
        return streams


class ChangeExtractor(nn.Module):
    """``(N, 2, L, C)`` -> ``(N, L, C)``: each date is gated by both, then the two are joined with their difference."""

    def __init__(self, width: int):
        super().__init__()
        self.linear_mapping = nn.Linear(2 * width, width)
        self.proj = nn.Linear(3 * width, width)

    def forward(self, dates: Tensor) -> Tensor:
        gate = self.linear_mapping(torch.cat([dates, dates.flip(1)], dim=-1)).sigmoid()  # own date first
        before, after = (dates * gate).unbind(1)
        change: Tensor = self.proj(torch.cat([before, after, before - after], dim=-1))
        return change


class Block(nn.Module):
    """Change tokens attend to themselves, then to both dates; then each date attends to itself and to them."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.change_self_attn = Attention(width)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_change_to_imageABC = Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"lin1": nn.Linear(width, hidden), "lin2": nn.Linear(hidden, width)})
        self.norm3 = nn.LayerNorm(width)
        self.cross_attn_imageAB_to_change = Attention(width)
        # The stream to which a token belongs.
        self.image_a_flag_embed = nn.Embedding(1, width)
        self.image_b_flag_embed = nn.Embedding(1, width)
        self.change_flag_embed = nn.Embedding(1, width)

    def forward(self, dates: Tensor, queries: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """dates ``(N, 2, L, C)``, queries ``(N, L, C)``, position ``(L, C)`` -> new dates and queries."""
        x = queries + position
        queries = self.norm1(queries + self.change_self_attn(x, x, queries))

        date_flags = torch.stack([self.image_a_flag_embed.weight, self.image_b_flag_embed.weight])  # (2, 1, C)
        change_place = position + self.change_flag_embed.weight  # (L, C)
        placed = dates + position + date_flags  # (N, 2, L, C)
        keys = torch.cat([placed.flatten(1, 2), queries + change_place], dim=1)  # (N, 3L, C)
        values = torch.cat([dates.flatten(1, 2), queries], dim=1)
        queries = self.norm2(queries + self.cross_attn_change_to_imageABC(queries + change_place, keys, values))
        queries = self.norm3(queries + self.mlp["lin2"](F.gelu(self.mlp["lin1"](queries))))

        change = queries[:, None].expand_as(dates)
        keys = torch.cat([placed, change + change_place], dim=2).flatten(0, 1)  # (N*2, 2L, C)
        values = torch.cat([dates, change], dim=2).flatten(0, 1)
        seen = self.cross_attn_imageAB_to_change(placed.flatten(0, 1), keys, values).view_as(dates)
        return placed + seen, queries  # position and flag stay in the dates, as published


class Attention(nn.Module):
    """Multi-head attention, ``(N, L, C)`` over ``(N, L', C)`` -> ``(N, L, C)``."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = max(width // HEAD_WIDTH, 1)
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        q, k, v = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, heads, L, C/heads)
            for projection, x in ((self.q_proj, queries), (self.k_proj, keys), (self.v_proj, values))
        )
        x = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out_proj(x.transpose(1, 2).flatten(2))
        return out


class DepthGate(nn.Module):
    """``(P, S, 3, L, C)`` -> ``(P, 3, L, C)``: the mean over depths, weighted by a gate that sees the token means."""

    def __init__(self, width: int):
        super().__init__()
        self.feature_map_level_gate = nn.Sequential(nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, 1))

    def gates(self, streams: Tensor) -> Tensor:
        """``(P, S, 3, L, C)`` -> ``(P, S, 1)`` in 0..1: the weight of each depth."""
        logits: Tensor = self.feature_map_level_gate(streams.mean(3).flatten(2))
        return logits.sigmoid()

    def forward(self, streams: Tensor) -> Tensor:
        gates = self.gates(streams)[..., None, None]  # (P, S, 1, 1, 1)
        return (gates * streams).sum(1) / (gates.sum(1) + 1e-6)


def sine_position(grid: int, width: int) -> Tensor:
    """float32 ``(L, C)``: sines and cosines of the row in the first half of the channels, of the column in the second.

    Positions are the centres of ``grid`` equal steps from 0 to 2 pi, as published.
    """
    half = width // 2
    place = (torch.arange(1, grid + 1, dtype=torch.float32) - 0.5) / (grid + 1e-6) * (2 * torch.pi)  # (g,)
    channel = torch.arange(half, dtype=torch.float32)
    angle = place[:, None] / 10000 ** (2 * (channel // 2) / half)  # (g, C/2)
    wave = torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1)
    rows = wave[:, None].expand(-1, grid, -1)
    columns = wave[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


def _reset(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)  # torch's 1.0 would dominate the tokens it is added to
