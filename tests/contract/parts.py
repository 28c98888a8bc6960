"""Projectors and vision towers as a plugin may add them."""

from torch import nn

from btcchat.errors import BTCChatError
from btcchat.multimodal_encoder.siglip import SiglipTower


class Projector(nn.Linear):
    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)

    def num_tokens(self, count):
        return count


class OfNine(Projector):
    """Takes nine tokens, and no other number."""

    def num_tokens(self, count):
        if count != 9:
            raise BTCChatError(f"{count} tokens, expected 3 x 3")
        return count

    def forward(self, features):
        self.num_tokens(features.shape[1])
        return super().forward(features)


class EvenAndWide(Projector):
    """Takes even numbers of tokens, with at least 128 channels."""

    def __init__(self, in_features, out_features):
        if in_features < 128:
            raise BTCChatError(f"in_features is {in_features}, expected at least 128")
        super().__init__(in_features, out_features)

    def num_tokens(self, count):
        if count % 2:
            raise BTCChatError(f"{count} tokens, expected an even number")
        return count

    def forward(self, features):
        self.num_tokens(features.shape[1])
        return super().forward(features)


class HalfOfThem(Projector):
    def num_tokens(self, count):
        return count // 2


class KeepsTheWidth(Projector):
    def forward(self, features):
        super().forward(features)
        return features


class NoNumTokens(nn.Linear):
    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)


class Tower(SiglipTower):
    pass


class OneTensor(Tower):
    def forward(self, pixel_values):
        return super().forward(pixel_values)[0]


class InFloat64(Tower):
    def forward(self, pixel_values):
        return [one.double() for one in super().forward(pixel_values)]


class NoDepths(Tower):
    num_depths = None
