"""One process, one device: the next batch is read while the model works on the current one."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

from btcchat.geo.answering import TileWork
from btcchat.geo.engines import Batches, Rows
from btcchat.geo.job import TileReader
from btcchat.geo.pair_model import BTCChatPairs, PairModel
from btcchat.geo.rows import TileRow

Submit: TypeAlias = Callable[[Callable[[], list[TileRow]]], "Future[list[TileRow]]"]


def run_local(batches: Batches, reader: TileReader, work: TileWork) -> Rows:
    assert work.model is not None
    with _working(work.model) as submit:
        pending: Future[list[TileRow]] | None = None
        for batch in batches:
            tiles = [reader.read(number) for number in batch]
            if pending is not None:
                yield pending.result()
            pending = submit(partial(work, tiles))
        if pending is not None:
            yield pending.result()


@contextmanager
def _working(model: PairModel) -> Iterator[Submit]:
    """A thread for the model: that of the engine, which owns the model, or one for a stub.

    A batch is one call of the engine. Which answers are generated together affects their last bits, and a resumed run
    must equal an uninterrupted one.
    """
    if isinstance(model, BTCChatPairs):
        from btcchat.serve.engine import Engine

        with Engine(model.model) as engine:
            yield engine.call
    else:
        with ThreadPoolExecutor(1) as pool:

            def submit(function: Callable[[], Any]) -> "Future[Any]":
                return pool.submit(function)

            yield submit
