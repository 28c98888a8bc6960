"""The heap during a training on a CPU: large tensors reuse freed memory, and gaps are given back now and then."""

import ctypes
from functools import lru_cache

from btcchat.train.trainer import Hook, Trainer

EVERY = 20  # steps
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
MOST = 2**31 - 1  # bytes, the highest value that mallopt takes


class HeapMemory(Hook):
    """By itself, glibc asks the operating system for each large tensor and returns it at once.

    Its pages are then new each time, and in attention it takes longer to get them than to compute. So large tensors are
    put into the heap, which is not returned at once. Tensors of many sizes leave gaps there, which stay with the
    process unless they are given back.
    """

    def begin(self, trainer: Trainer) -> None:
        libc = glibc()
        # Older versions of glibc refuse the first. The second alone would make all tensors slower.
        if trainer.args.device.type == "cpu" and libc and libc.mallopt(MMAP_THRESHOLD, MOST):
            libc.mallopt(TRIM_THRESHOLD, MOST)

    def after_step(self, trainer: Trainer) -> None:
        if trainer.args.device.type == "cpu" and trainer.state.global_step % EVERY == 0 and (libc := glibc()):
            libc.malloc_trim(0)


@lru_cache(maxsize=1)
def glibc() -> ctypes.CDLL | None:
    """glibc; None on systems without it (musl, macOS, Windows)."""
    try:
        libc = ctypes.CDLL(None)
        libc.malloc_trim, libc.mallopt  # noqa: B018 - raises if they do not exist
    except (AttributeError, OSError, TypeError):
        return None
    return libc
