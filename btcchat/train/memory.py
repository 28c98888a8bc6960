"""Give free memory back to the operating system during a training on a CPU."""

import ctypes
from collections.abc import Callable
from functools import lru_cache

from btcchat.train.trainer import Hook, Trainer

EVERY = 20  # steps


class ReturnMemory(Hook):
    """Tensors of many sizes leave gaps in the heap of glibc, which stay with the process unless they are given back."""

    def after_step(self, trainer: Trainer) -> None:
        if trainer.args.device.type == "cpu" and trainer.state.global_step % EVERY == 0 and (trim := malloc_trim()):
            trim(0)


@lru_cache(maxsize=1)
def malloc_trim() -> Callable[[int], int] | None:
    """The function of glibc; None on systems without it (musl, macOS, Windows)."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return found
