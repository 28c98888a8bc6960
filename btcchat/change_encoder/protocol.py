"""What a change encoder is: the contract that every row of CHANGE_ENCODERS fulfils."""

from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class ChangeEncoder(Protocol):
    """The two dates of a pair in, the pair's change tokens out.

    Built as ``Encoder(hidden_size=C, grid=g, num_depths=S, **options)``, for L = g x g tokens per date. It is an
    ``nn.Module`` and may also be a `PoolsTokens` or a `MeasuresDistance`.
    """

    @property
    def segments(self) -> int:
        """V: the number of placeholders of a pair in the prompt."""
        ...

    def __call__(self, features: Tensor) -> Tensor:
        """float ``(P, 2, S, L, C)`` -> ``(P, V, L', C)``: pairs, dates (0 is *before*), depths, tokens, channels."""
        ...


@runtime_checkable
class PoolsTokens(Protocol):
    """A change encoder whose output has another number of tokens than its input. Without this method L' is L."""

    def num_tokens(self, count: int) -> int:
        """L': the tokens of a segment, for ``count`` = L tokens of a date."""
        ...


@runtime_checkable
class MeasuresDistance(Protocol):
    """A change encoder with a distance of its own for change maps. Without it, that of the tower's features is used."""

    def distance(self, features: Tensor) -> Tensor:
        """float ``(P, 2, S, L, C)`` -> float32 ``(P, g, g)``: how far apart the dates are, 0 (alike) to 1."""
        ...


class ChangeEncoderModule(ChangeEncoder, nn.Module):
    """What `build_change_encoder` returns, for annotations: a `ChangeEncoder` that is an ``nn.Module``."""
