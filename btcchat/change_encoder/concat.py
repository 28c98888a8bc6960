"""The baseline without a change module: the tokens of both dates go into the prompt, and the LLM compares them."""

from torch import Tensor, nn


class Concat(nn.Module):
    """``(P, 2, S, L, C)`` -> ``(P, 2, L, C)``: the last selected depth of each date, one segment per date."""

    segments = 2

    def __init__(self, *, hidden_size: int, grid: int, num_depths: int):
        super().__init__()

    def forward(self, features: Tensor) -> Tensor:
        return features[:, :, -1]
