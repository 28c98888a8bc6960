"""The tiles of a grid: overlapping squares of one size, with the last row and column moved inward."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from shapely import Polygon, prepare
from shapely.geometry.base import BaseGeometry

from btcchat.errors import BTCChatError
from btcchat.geo.grid import Grid

SMALLEST, LARGEST = 16, 4096  # pixels a side of a tile
Window = tuple[int, int, int, int]  # left, top, width, height in pixels of the grid
Part = tuple[float, float, float, float]  # the same, in fractions of pixels


@dataclass(frozen=True)
class Tiles:
    """Tiles of ``side`` pixels, numbered from 0 row by row. overlap: the share of a side that neighbours share.

    Raises BTCChatError for a grid smaller than one tile.
    """

    grid: Grid
    side: int
    overlap: float
    lefts: list[int] = field(init=False)
    tops: list[int] = field(init=False)

    def __post_init__(self) -> None:
        width, height = self.grid.width, self.grid.height
        if min(width, height) < self.side:
            smaller = min(width, height)
            tile = f"--tile {smaller} or " if smaller >= SMALLEST else ""
            raise BTCChatError(
                f"the dates share {width} x {height} pixels of {self.grid.gsd:.4g} m, but a tile has "
                f"{self.side} x {self.side}; give {tile}a smaller --gsd"
            )
        object.__setattr__(self, "lefts", _starts(width, self.side, self.stride))
        object.__setattr__(self, "tops", _starts(height, self.side, self.stride))

    @property
    def stride(self) -> int:
        return max(1, round(self.side * (1 - self.overlap)))

    @property
    def margin(self) -> int:
        """Pixels over which a tile's map fades into its neighbour's."""
        return self.side - self.stride

    def __len__(self) -> int:
        return len(self.lefts) * len(self.tops)

    def place(self, number: int) -> tuple[int, int]:
        """Row and column of a tile, from 0."""
        return divmod(number, len(self.lefts))

    def window(self, number: int) -> Window:
        row, column = self.place(number)
        return self.lefts[column], self.tops[row], self.side, self.side

    def polygon(self, number: int) -> Polygon:
        """In the CRS of the grid."""
        return self.grid.polygon(*self.window(number))

    def cell(self, number: int) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the part of a tile that is closer to its centre than to its neighbours'."""
        row, column = self.place(number)
        left, right = _middles(self.lefts, column, self.side)
        top, bottom = _middles(self.tops, row, self.side)
        return left, top, right, bottom

    def touching(self, window: Window) -> Iterator[int]:
        """The numbers of the tiles that share pixels with a window."""
        left, top, width, height = window
        columns = [number for number, x in enumerate(self.lefts) if x < left + width and x + self.side > left]
        for row, y in enumerate(self.tops):
            if y < top + height and y + self.side > top:
                yield from (row * len(self.lefts) + column for column in columns)

    def nearest(self, column: float, row: float) -> int:
        """The tile whose centre is nearest to a point of the grid."""
        half = self.side / 2
        x = min(range(len(self.lefts)), key=lambda number: abs(self.lefts[number] + half - column))
        y = min(range(len(self.tops)), key=lambda number: abs(self.tops[number] + half - row))
        return y * len(self.lefts) + x

    def inside(self, area: BaseGeometry) -> list[int]:
        """The numbers of the tiles that touch an area in the CRS of the grid."""
        prepare(area)
        return [number for number in range(len(self)) if area.intersects(self.polygon(number))]

    @cached_property
    def ground_side(self) -> float:
        """The side of a tile in metres."""
        return self.side * self.grid.gsd


def _starts(length: int, side: int, stride: int) -> list[int]:
    return [*range(0, length - side, stride), length - side]


def _middles(starts: list[int], number: int, side: int) -> tuple[float, float]:
    """The middles between a tile and its neighbours; its own edge on a side without one."""
    start = starts[number] if number == 0 else (starts[number - 1] + side + starts[number]) / 2
    last = number == len(starts) - 1
    return start, starts[number] + side if last else (starts[number] + side + starts[number + 1]) / 2
