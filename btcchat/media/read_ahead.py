"""Read the images of the next batches while the model computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

READERS = 4  # threads that read and resize images
AHEAD = 2  # batches to read ahead

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(read: Callable[[Item], Result], groups: Iterable[Sequence[Item]]) -> Iterator[list[Result]]:
    """Yield ``[read(item) for item in group]`` for each group, while threads read the next groups."""
    with ThreadPoolExecutor(READERS) as pool:
        waiting: deque[list[Future[Result]]] = deque()
        try:
            for group in groups:
                waiting.append([pool.submit(read, item) for item in group])
                if len(waiting) > AHEAD:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
