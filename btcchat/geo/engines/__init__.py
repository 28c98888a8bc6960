"""Engines do the tiles of a run, in this process or in Ray workers. They yield the rows of a batch, in any order."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from btcchat.geo.pair_model import PairModel
from btcchat.geo.rows import TileRow

Batches: TypeAlias = Sequence[Sequence[int]]  # numbers of tiles; the tiles of a batch are always done together
Rows: TypeAlias = Iterator[list[TileRow]]
LoadModel: TypeAlias = Callable[[], PairModel]
