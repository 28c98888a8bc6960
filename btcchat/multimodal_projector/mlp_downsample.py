"""VILA-1.5's projector (Lin et al. 2023, arXiv:2312.07533): 2x2 neighbours become one token, then an MLP."""

import math

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from btcchat.errors import BTCChatError, choose

# Order of the output tokens: i, j = row and column within a block, r, c = row and column of the block.
TOKEN_ORDERS = {
    "column": "k (r i) (c j) d -> k (c r) (i j d)",  # BTCChat, UniRS, and VILA-1.5 until December 2024
    "row": "k (r i) (c j) d -> k (r c) (i j d)",  # VILA since then
}


class MLPDownsample(nn.Sequential):
    """``(K, g*g, C)`` -> ``(K, ceil(g/2)**2, D)``, any g. State dict keys 1, 2, 4: norm, linear layers.

    Raises BTCChatError for a number of tokens that is not a square.
    """

    def __init__(self, in_features: int, out_features: int, token_order: str = "column"):
        super().__init__(
            Downsample2x2(token_order),
            nn.LayerNorm(4 * in_features),
            nn.Linear(4 * in_features, out_features),
            nn.GELU(),
            nn.Linear(out_features, out_features),
        )

    def num_tokens(self, count: int) -> int:
        return ((_side(count) + 1) // 2) ** 2


class Downsample2x2(nn.Module):
    """``(K, g*g, C)`` -> ``(K, ceil(g/2)**2, 4C)``, channels top-left, top-right, bottom-left, bottom-right.

    An odd grid gets one row of zeros at the bottom and one column at the right.
    """

    def __init__(self, token_order: str):
        super().__init__()
        self.order = choose("token_order", token_order, TOKEN_ORDERS)

    def forward(self, x: Tensor) -> Tensor:
        grid = _side(x.shape[1])
        x = x.unflatten(1, (grid, grid))  # (K, g, g, C)
        if grid % 2:
            x = F.pad(x, (0, 0, 0, 1, 0, 1))
        return rearrange(x, self.order, i=2, j=2)  # (K, M, 4C)


def _side(count: int) -> int:
    side = math.isqrt(count)
    if side**2 != count:
        raise BTCChatError(
            f"projector 'mlp_downsample': got {count} tokens, expected a square number; "
            "set mm_vision_select_feature to 'cls_patch' to keep all tokens of a tower without a class token"
        )
    return side
