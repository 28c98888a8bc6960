"""Projectors that keep the number of tokens."""

from torch import nn

from btcchat.errors import BTCChatError


class KeepsTokens:
    """A projector with as many tokens out as in: M = L."""

    def num_tokens(self, count: int) -> int:
        return count


class MLPGelu(KeepsTokens, nn.Sequential):
    """``num_layers`` linear layers with exact GELU between them: (K, L, C) -> (K, L, D). State dict keys 0, 2, 4..."""

    def __init__(self, in_features: int, out_features: int, num_layers: int):
        layers: list[nn.Module] = [nn.Linear(in_features, out_features)]
        for _ in range(num_layers - 1):
            layers += [nn.GELU(), nn.Linear(out_features, out_features)]
        super().__init__(*layers)


class Linear(KeepsTokens, nn.Linear):
    """One linear layer: (K, L, C) -> (K, L, D). State dict keys weight, bias."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features)


class Identity(KeepsTokens, nn.Identity):
    """Tokens stay as they are: (K, L, C) -> (K, L, C), for a vision tower as wide as the language model.

    Raises BTCChatError for different widths.
    """

    def __init__(self, in_features: int, out_features: int):
        if in_features != out_features:
            raise BTCChatError(
                f"projector 'identity' needs a language model as wide as the vision tower, "
                f"got {in_features} -> {out_features}; choose 'linear'"
            )
        super().__init__()
