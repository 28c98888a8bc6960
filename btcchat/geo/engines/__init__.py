"""Where the tiles of a run are worked on: in this process, or in workers of Ray. Rows come as batches, in any order."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from btcchat.geo.pair_model import PairModel
from btcchat.geo.rows import TileRow

Batches: TypeAlias = Sequence[Sequence[int]]  # numbers of tiles; a batch is always read and answered together
Rows: TypeAlias = Iterator[list[TileRow]]
LoadModel: TypeAlias = Callable[[], PairModel]
