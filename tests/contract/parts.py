"""Projectors and vision towers as a plugin has them."""

from torch import nn

from btcchat.multimodal_encoder.siglip import SiglipTower


class Projector(nn.Linear):
    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)

    def num_tokens(self, count):
        return count


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
