"""Turn values into grey levels, with one range for all dates and tiles of a run, from overviews."""

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from PIL import Image

from btcchat.errors import BTCChatError
from btcchat.geo.warp import OnGrid, Warped
from btcchat.media.radiometry import Deep, grey_levels, value_ranges
from btcchat.media.reading import Stretch

Range: TypeAlias = tuple[float, float] | None  # None: 8-bit values, shown as they are
LONGEST = 1024  # pixels of the longer side of an overview
PARTS = 16  # parts per side in which a damaged file is read


def overview_size(width: int, height: int, longest: int = LONGEST) -> tuple[int, int]:
    """A grid's size scaled down to at most ``longest`` pixels wide and high."""
    factor = max(1.0, max(width, height) / longest)
    return max(1, math.floor(width / factor)), max(1, math.floor(height / factor))


def overview(date: OnGrid, longest: int = LONGEST) -> Warped:
    """The whole grid, scaled down. Unreadable parts are not valid. Raises BTCChatError if no pixel is valid."""
    grid = date.grid
    size = overview_size(grid.width, grid.height, longest)
    try:
        whole = date.read((0, 0, grid.width, grid.height), size)
    except BTCChatError:
        whole = _in_parts(date, size)
    if not whole.valid.any():
        raise BTCChatError(
            f"{date.scene.name} has no valid pixel where the dates overlap: all are no data, masked or "
            "clouds; if that is wrong, set the no-data value with --nodata, or give --clouds keep"
        )
    return whole


def _in_parts(date: OnGrid, size: tuple[int, int]) -> Warped:
    """An overview of a damaged file. Raises the last error if no part of it can be read."""
    fault: BTCChatError | None = None
    values = np.zeros((size[1], size[0], date.scene.bands), np.float32)
    valid = np.zeros(size[::-1], bool)
    across, down = date.grid.width / size[0], date.grid.height / size[1]
    for top, bottom in _cuts(size[1]):
        for left, right in _cuts(size[0]):
            window = (left * across, top * down, (right - left) * across, (bottom - top) * down)
            try:
                part = date.read(window, (right - left, bottom - top))
            except BTCChatError as error:
                fault = error
                continue
            values[top:bottom, left:right], valid[top:bottom, left:right] = part.values, part.valid
    if fault is not None and not valid.any():
        raise fault
    return Warped(values, valid)


def _cuts(length: int) -> list[tuple[int, int]]:
    ends = np.linspace(0, length, min(PARTS, length) + 1).astype(int).tolist()
    return list(zip(ends[:-1], ends[1:], strict=True))


def ranges(dates: Sequence[OnGrid], overviews: Sequence[Warped], stretch: Stretch) -> list[Range]:
    """For each date, the values that become black and white."""
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
