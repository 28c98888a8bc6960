"""Attention in a sample with branches (prompt/independent.py): mask and positions of its tokens."""

import torch
from torch import Tensor, nn

from btcchat.compat.decoding import run_with_mask


def run_branches(decoder: nn.Module, inputs_embeds: Tensor, branches: Tensor) -> Tensor:
    """Hidden states (B, N, D) of embeddings (B, N, D) whose tokens have these ``branches`` (B, N).

    Each branch is computed as if it alone followed the beginning.
    """
    mask = torch.where(sees(branches), 0.0, torch.finfo(inputs_embeds.dtype).min).to(inputs_embeds.dtype)
    return run_with_mask(decoder, inputs_embeds, mask[:, None], positions(branches))


def sees(branches: Tensor) -> Tensor:
    """(B, N) -> (B, N, N) bool: whether token i sees token j, one before it in its own branch or in the beginning."""
    own = branches[:, :, None] == branches[:, None]
    return (own | (branches == 0)[:, None]).tril()


def positions(branches: Tensor) -> Tensor:
    """(B, N) -> (B, N): the place of each token if its branch alone followed the beginning."""
    places = torch.arange(branches.shape[1], device=branches.device).expand_as(branches)
    starts = torch.ones_like(branches, dtype=torch.bool)
    starts[:, 1:] = branches[:, 1:] != branches[:, :-1]
    start = torch.where(starts, places, 0).cummax(1).values  # of each token's run
    beginning = (branches == 0).long().cumprod(1).sum(1, keepdim=True)
    return torch.where(branches == 0, places, beginning + places - start)
