"""Change encoders as a plugin may add them: some fulfil the contract, most break it in one way."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

calls = itertools.count()


class Difference(nn.Module):
    """After minus before through a linear layer: it fulfils the contract."""

    segments = 1

    def __init__(self, *, hidden_size, grid, num_depths, gain=1.0):
        super().__init__()
        self.grid, self.gain = grid, gain
        self.linear = nn.Linear(hidden_size, hidden_size)

    def forward(self, features):
        return self.gain * self.linear(features[:, 1:, -1] - features[:, :1, -1])  # (P, 1, L, C)


class Pooling(Difference):
    """Four tokens become one; refuses odd grids and several depths."""

    def __init__(self, *, hidden_size, grid, num_depths, heads=4):
        super().__init__(hidden_size=hidden_size, grid=grid, num_depths=num_depths)
        if grid % 2 or num_depths > 1:
            raise ValueError(f"expected an even grid and one depth, got {grid} and {num_depths}")
        self.heads = heads

    def forward(self, features):
        change = super().forward(features)[:, 0].unflatten(2, (self.heads, -1)).flatten(2)
        maps = change.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        return F.avg_pool2d(maps, 2).flatten(2).transpose(1, 2)[:, None]

    def num_tokens(self, count):
        return count // 4


class WithDistance(Difference):
    def distance(self, features):
        return (features[:, 1, -1] - features[:, 0, -1]).float().norm(dim=-1).tanh().unflatten(1, (self.grid, -1))


class LooksAtNumbers(Difference):
    """A forward that the device meta, which has no numbers, cannot run."""

    def forward(self, features):
        out = super().forward(features)
        return out * 2 if features.abs().max() > 1e9 else out


# -- four common mistakes ----------------------------------------------------------------------------------------------


class NoSegments(Difference):
    segments = property(lambda self: self.__getattr__("segments"))


class OtherConstructor(nn.Module):
    segments = 1

    def __init__(self, dim):
        super().__init__()
        self.linear = nn.Linear(dim, dim)


class ThreeDimensions(Difference):
    def forward(self, features):
        return super().forward(features)[:, 0]


class WrongNumTokens(Difference):
    def num_tokens(self, count):
        return 4


# -- others ------------------------------------------------------------------------------------------------------------


class ConstructorFails(Difference):
    def __init__(self, *, hidden_size, grid, num_depths):
        super().__init__(hidden_size=hidden_size, grid=grid, num_depths=num_depths)
        self.linear = nn.Linear(hidden_size, None)


class ForwardFails(Difference):
    def forward(self, features):
        return self.linear(features @ features)


class OnlyEvenGrids(Difference):
    def forward(self, features):
        return super().forward(features.unflatten(3, (-1, 4)).flatten(3, 4))


class WrongSegments(Difference):
    segments = 2


class GivesATuple(Difference):
    def forward(self, features):
        return super().forward(features), None


class NumTokensIsANumber(Difference):
    num_tokens = 16


class NotAModule:
    segments = 1

    def __init__(self, *, hidden_size, grid, num_depths):
        pass

    def __call__(self, features):
        return features[:, :1, -1]


class AlwaysFloat32(Difference):
    def forward(self, features):
        return super().forward(features).float()


class Float32Inside(Difference):
    def forward(self, features):
        return super().forward(features) + self.linear(torch.ones(features.shape[-1], device=features.device))


class OnTheCPU(Difference):
    def __init__(self, *, hidden_size, grid, num_depths):
        super().__init__(hidden_size=hidden_size, grid=grid, num_depths=num_depths)
        self.places = nn.Embedding(grid**2, hidden_size)

    def forward(self, features):
        return super().forward(features) + self.places(torch.arange(self.grid**2))


class MadeOnTheCPU(Difference):
    def forward(self, features):
        return torch.ones(len(features), 1, *features.shape[3:]).to(features.dtype)


class TensorAttribute(Difference):
    """A tensor that is not a buffer stays on the device where it was made."""

    def __init__(self, *, hidden_size, grid, num_depths):
        super().__init__(hidden_size=hidden_size, grid=grid, num_depths=num_depths)
        self.scale = torch.ones(hidden_size)

    def forward(self, features):
        return super().forward(features) * self.scale.to(features.dtype)


class NotSaved(Difference):
    def __init__(self, *, hidden_size, grid, num_depths):
        super().__init__(hidden_size=hidden_size, grid=grid, num_depths=num_depths)
        self.shift = torch.randn(1).item()

    def forward(self, features):
        return super().forward(features) + self.shift


class NaN(Difference):
    def forward(self, features):
        return super().forward(features).log()


class NaNForEqualDates(Difference):
    def forward(self, features):
        change = features[:, 1:, -1] - features[:, :1, -1]
        return self.linear(change / change.norm(dim=-1, keepdim=True))


class MadeInForward(Difference):
    def __init__(self, *, hidden_size, grid, num_depths):
        super().__init__(hidden_size=hidden_size, grid=grid, num_depths=num_depths)
        self.linear = nn.LazyLinear(hidden_size)


class UnusedParameter(Difference):
    def __init__(self, *, hidden_size, grid, num_depths):
        super().__init__(hidden_size=hidden_size, grid=grid, num_depths=num_depths)
        self.unused = nn.Linear(hidden_size, 1)


class Detached(Difference):
    def forward(self, features):
        return super().forward(features).detach()


class DetachedInput(Difference):
    def forward(self, features):
        return super().forward(features.detach())


class NumpyInput(Difference):
    def forward(self, features):
        return super().forward(torch.from_numpy(features.float().cpu().numpy()).to(features))


class InfiniteGradient(Difference):
    def forward(self, features):
        out = super().forward(features)
        return out + (out * 0).sqrt()


class DropoutInEval(Difference):
    def forward(self, features):
        return F.dropout(super().forward(features), 0.5)


class Remembers(Difference):
    def forward(self, features):
        return super().forward(features) + math.sin(next(calls))


class MeanOfTheBatch(Difference):
    def forward(self, features):
        out = super().forward(features)
        return out - out.mean(0, keepdim=True)


class NeedsTwoPairs(Difference):
    def __init__(self, *, hidden_size, grid, num_depths):
        super().__init__(hidden_size=hidden_size, grid=grid, num_depths=num_depths)
        self.norm = nn.BatchNorm1d(hidden_size)

    def forward(self, features):
        out = super().forward(features)
        return out + self.norm(out.mean((1, 2)))[:, None, None]


class DistanceTooLarge(WithDistance):
    def distance(self, features):
        return super().distance(features) * 10


class DistanceOfTokens(WithDistance):
    def distance(self, features):
        return super().distance(features).flatten(1)


# -- what may be intended ----------------------------------------------------------------------------------------------


class OrderIgnored(Difference):
    def forward(self, features):
        return self.linear((features[:, 1:, -1] - features[:, :1, -1]).abs())


class ZeroGate(Difference):
    def __init__(self, *, hidden_size, grid, num_depths):
        super().__init__(hidden_size=hidden_size, grid=grid, num_depths=num_depths)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, features):
        return features[:, 1:, -1] + self.gate * super().forward(features)


# class -> check, result, and part of what is found
FINDINGS = {
    NoSegments: ("attributes", "fail", "the attribute segments is missing; expected a whole number of at least 1"),
    OtherConstructor: ("constructor", "fail", r"takes \(dim\), expected \(hidden_size=, grid=, num_depths=\); missing"),
    ThreeDimensions: ("output", "fail", r"returned \(3, 16, 32\) .* expected \(P, V, L', C\) = \(3, 1, 16, 32\)"),
    WrongNumTokens: ("num_tokens", "fail", r"returned \(3, 1, 16, 32\) .* expected 4 as the third size: num_tokens"),
    ConstructorFails: ("constructor", "fail", r"its constructor raised TypeError: .* \(encoders.py line \d+\)"),
    ForwardFails: (
        "forward",
        "fail",
        r"raised RuntimeError: .* \(encoders.py line \d+\) for \(1, 2, 1, 16, 32\) at grid",
    ),
    OnlyEvenGrids: ("forward", "fail", "raised RuntimeError: .* at grid 5, 1 depth; expected a tensor"),
    WrongSegments: ("segments", "fail", r"returned \(3, 1, 16, 32\) .* expected 2 as the second size: the attribute"),
    GivesATuple: ("output", "fail", "returned tuple at grid 4, 1 depth; expected a tensor"),
    NumTokensIsANumber: ("attributes", "fail", "num_tokens is 16; expected a method"),
    NotAModule: ("attributes", "fail", "it is NotAModule, not a module; expected a subclass of torch.nn.Module"),
    AlwaysFloat32: ("dtype", "fail", "returned float32 with weights in bfloat16 at grid 4, 1 depth; expected bfloat16"),
    Float32Inside: ("dtype", "fail", r"raised RuntimeError: .* in bfloat16; expected"),
    OnTheCPU: ("device", "fail", r"makes a tensor on the CPU .*in embedding \(encoders.py line \d+\)"),
    TensorAttribute: ("device", "fail", "makes a tensor on the CPU .*in mul"),
    NotSaved: ("save and load", "fail", "an instance with the saved weights gives a different output at grid 4"),
    NaN: (
        "finite",
        "fail",
        r"\d+ of the 1536 numbers returned for \(3, 2, 1, 16, 32\) at grid 4, 1 depth are NaN or infinite",
    ),
    NaNForEqualDates: (
        "finite",
        "fail",
        "returned for two equal dates at grid 4, 1 depth are NaN or infinite; expected finite",
    ),
    MadeInForward: ("parameters", "fail", r"created linear.bias \(2 in all\); expected parameters .* the constructor"),
    UnusedParameter: ("gradients", "fail", r"of 'unused.weight' \(2 of 4 parameters\) is None at grid 4, 1 depth"),
    Detached: ("gradients", "fail", r"of 'linear.weight' \(2 of 2 parameters\) is None"),
    InfiniteGradient: ("gradients", "fail", "of 'linear.weight' .* is not finite"),
    DropoutInEval: ("repeat", "fail", r"two passes over the same pairs differ by .*in eval\(\)"),
    Remembers: ("repeat", "fail", "two passes over the same pairs differ by .* no state kept from one call"),
    MeanOfTheBatch: ("batch", "fail", "3 pairs in one batch differ by .* no statistics over the batch"),
    NeedsTwoPairs: (
        "gradients",
        "fail",
        "raised ValueError: Expected more than 1 value per channel .* with a batch of 1, in training",
    ),
    DistanceTooLarge: ("distance", "fail", r"float32 \(3, 4, 4\) in .*\.\.10 .* expected float32 \(P, g, g\)"),
    DistanceOfTokens: ("distance", "fail", r"returned float32 \(3, 16\) in"),
    OrderIgnored: ("dates", "warn", "the same with the dates swapped: built and removed look alike"),
    DetachedInput: ("gradients", "warn", r"no gradient reaches the input at grid 4, 1 depth: .*--tune_vision_tower"),
    NumpyInput: ("gradients", "warn", "no gradient reaches the input at grid 4, 1 depth"),
    ZeroGate: ("gradients", "warn", "'linear.weight' .* is zero everywhere, which is expected only if a gate"),
}
