"""Blend the change maps of overlapping tiles into one map of the whole grid."""

import numpy as np

from btcchat.geo.answering import map_of
from btcchat.geo.log import TileLog
from btcchat.geo.rows import DONE, unpack_mask
from btcchat.geo.tiles import Tiles, Window

BLOCK = 1024  # side, in pixels, of the part that is blended at a time


class BlendedMap:
    """The map of pair number ``pair``. Each pixel is the mean of its tiles' maps, weighted by `taper`."""

    def __init__(self, tiles: Tiles, log: TileLog, pair: int = 0) -> None:
        self.tiles, self._log, self._pair = tiles, log, pair
        self._weights = taper(tiles.side, tiles.margin)

    def read(self, window: Window) -> np.ndarray:
        """float32 (H, W) in 0..1, NaN where no tile has a valid pixel."""
        left, top, width, height = window
        total = np.zeros((height, width), np.float32)
        weight = np.zeros((height, width), np.float32)
        for number in self.tiles.touching(window):
            if self._log.statuses.get(number) != DONE:
                continue
            row, (x, y, side, _) = self._log.row(number), self.tiles.window(number)
            change = map_of(row["pairs"][self._pair]["patches"], side)
            weights = self._weights * unpack_mask(row, side)
            x0, x1 = max(x, left), min(x + side, left + width)
            y0, y1 = max(y, top), min(y + side, top + height)
            inside = slice(y0 - y, y1 - y), slice(x0 - x, x1 - x)
            place = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
            total[place] += (change * weights)[inside]
            weight[place] += weights[inside]
        with np.errstate(invalid="ignore"):
            return np.where(weight > 0, total / weight, np.float32(np.nan)).astype(np.float32)

    def blocks(self) -> list[Window]:
        """Windows that cover the whole grid, row by row."""
        width, height = self.tiles.grid.width, self.tiles.grid.height
        return [
            (left, top, min(BLOCK, width - left), min(BLOCK, height - top))
            for top in range(0, height, BLOCK)
            for left in range(0, width, BLOCK)
        ]


def taper(side: int, margin: int) -> np.ndarray:
    """Weights (side, side) that rise from the edges over ``margin`` pixels, so that a tile has no hard edge."""
    distance = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    edge = np.clip(distance / max(margin, 1), 1e-3, 1).astype(np.float32)
    return edge[:, None] * edge
