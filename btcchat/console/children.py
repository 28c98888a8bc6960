"""Child processes that end when their parent ends."""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from typing import Any

from btcchat.console.signals import raise_terminated

SECONDS = 10.0  # for a child to clean up after SIGTERM
PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent(*_: object) -> None:
    """Call this in a child: Linux then kills it when its parent dies, for whatever reason. Does nothing elsewhere."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():  # it died earlier, while this process was starting
            signal.raise_signal(signal.SIGKILL)


@contextmanager
def process_pool(
    workers: int, context: BaseContext, start: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes end with this one. ``start(*arguments)`` is called first in each of them.

    If an error or a signal ends the block, running tasks are not waited for.
    """
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, _start, (start, arguments))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        _end([child for child in multiprocessing.active_children() if child not in others])
        raise
    pool.shutdown()


def _start(start: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    end_with_parent()
    signal.signal(signal.SIGTERM, raise_terminated)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches them too; the parent decides
    if start is not None:
        start(*arguments)


def _end(children: list[multiprocessing.process.BaseProcess]) -> None:
    for child in children:
        child.terminate()
    for child in children:
        child.join(SECONDS)
        if child.is_alive():
            child.kill()
