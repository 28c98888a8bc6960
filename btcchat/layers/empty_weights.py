"""Build modules whose weights are loaded later: no memory for parameters, and no initialisation."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from accelerate import init_empty_weights as parameters_on_meta
from torch import Tensor
from torch.overrides import TorchFunctionMode

KEPT = ("requires_grad_", "retain_grad_")  # end like in-place operators, but do not write values


@contextmanager
def init_empty_weights() -> Iterator[None]:
    """Modules built inside have parameters on the meta device and real buffers."""
    with parameters_on_meta(include_buffers=False), NoInitialValues():
        yield


class NoInitialValues(TorchFunctionMode):
    """Inside, in-place operators and ``nn.init`` leave meta tensors alone.

    There is nothing to write, and torch would import its compiler and sympy to run ``normal_``: about a second.
    """

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        target = args[0] if args else (kwargs or {}).get("tensor")  # the name of nn.init's argument
        in_place = name.endswith("_") and not name.endswith("__") and name not in KEPT
        if in_place and isinstance(target, Tensor) and target.is_meta:
            return target
        return func(*args, **(kwargs or {}))
