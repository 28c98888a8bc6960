"""What a projector is: the contract that every row of PROJECTORS fulfils."""

from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Projector(Protocol):
    """Vision or change tokens in, tokens of the language model's width out.

    Built as ``Projector(in_features=C, out_features=D, **options)``. It is an ``nn.Module``.
    """

    def num_tokens(self, count: int) -> int:
        """M: the tokens that come out for ``count`` = L that go in. Raises BTCChatError if it cannot take that many."""
        ...

    def __call__(self, features: Tensor) -> Tensor:
        """float ``(K, L, C)`` -> ``(K, M, D)``, K being the number of segments."""
        ...


class ProjectorModule(Projector, nn.Module):
    """What `build_projector` returns, for annotations: a `Projector` that is an ``nn.Module``."""
