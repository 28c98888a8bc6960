"""Values to grey levels: one range for all dates and all tiles of a run, from overviews."""

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from PIL import Image

from btcchat.errors import BTCChatError
from btcchat.geo.warp import OnGrid, Warped
from btcchat.media.radiometry import Deep, grey_levels, value_ranges
from btcchat.media.reading import Stretch

Range: TypeAlias = tuple[float, float] | None  # None: 8-bit values, which are shown as they are
LONGEST = 1024  # pixels of the side that is looked at


def overview_size(width: int, height: int, longest: int = LONGEST) -> tuple[int, int]:
    """A grid's size made at most ``longest`` pixels wide and high."""
    factor = max(1.0, max(width, height) / longest)
    return max(1, math.floor(width / factor)), max(1, math.floor(height / factor))


def overview(date: OnGrid, longest: int = LONGEST) -> Warped:
    """All of the grid, small. Raises BTCChatError for a date without a valid pixel on it."""
    grid = date.grid
    whole = date.read((0, 0, grid.width, grid.height), overview_size(grid.width, grid.height, longest))
    if not whole.valid.any():
        raise BTCChatError(
            f"{date.scene.name} has no valid pixel where the dates overlap: all are no data; "
            "--nodata says which value is"
        )
    return whole


def ranges(dates: Sequence[OnGrid], overviews: Sequence[Warped], stretch: Stretch) -> list[Range]:
    """For each date the values that become black and white."""
    deep = [number for number, date in enumerate(dates) if date.scene.deep]
    images = [_deep(overviews[number], dates[number].scene.name, dates[number].scene.whole_range) for number in deep]
    found = dict(zip(deep, value_ranges(images, stretch), strict=True))
    return [found.get(number) for number in range(len(dates))]


def frame(pixels: Warped, limits: Range) -> Image.Image:
    """A window as RGB, black where it is not valid."""
    if limits is not None:
        return grey_levels(_deep(pixels, "", limits), limits)
    values = np.where(pixels.valid[..., None], pixels.values, 0).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3))))


def _deep(pixels: Warped, name: str, whole: tuple[float, float]) -> Deep:
    valid = np.broadcast_to(pixels.valid[..., None], pixels.values.shape)
    return Deep(pixels.values, valid, name, whole)
