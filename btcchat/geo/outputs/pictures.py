"""The pictures of a report: each date and the change map, small enough for a page."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from btcchat.geo.blend import BlendedMap
from btcchat.geo.stretch import Range, frame, overview, overview_size
from btcchat.geo.warp import OnGrid
from btcchat.media.page import data_uri

LONGEST = 1400  # pixels of the longer side of a picture
RED = (255, 32, 32)
STRONGEST = 190  # opacity of the strongest change, of 255


def date_pictures(dates: Sequence[OnGrid], ranges: Sequence[Range]) -> list[str]:
    """Each date as the ``src`` of an <img>."""
    pictures = []
    for date, limits in zip(dates, ranges, strict=True):
        pictures.append(data_uri(frame(overview(date, LONGEST), limits), "webp"))
    return pictures


def map_picture(blended: BlendedMap, threshold: float) -> str:
    """The map in red; a stronger change is more opaque, the strongest of the map the most, if it is above threshold."""
    from btcchat.change_encoder.change_map import LEVEL, strength

    change = small_map(blended)
    known = np.isfinite(change)
    pixels = np.zeros((*change.shape, 4), np.uint8)
    pixels[..., :3] = RED
    if known.any():
        pixels[known, 3] = (STRONGEST * strength(change[known], max(threshold, LEVEL))).astype(np.uint8)
    return data_uri(Image.fromarray(pixels), "webp", quality=60)


def small_map(blended: BlendedMap) -> np.ndarray:
    """(H, W) at the size of a picture. Every n-th pixel is enough, because the map is smooth."""
    grid = blended.tiles.grid
    width, height = overview_size(grid.width, grid.height, LONGEST)
    columns = ((np.arange(width) + 0.5) * grid.width / width).astype(int)
    rows = ((np.arange(height) + 0.5) * grid.height / height).astype(int)
    small = np.full((height, width), np.nan, np.float32)
    for window in blended.blocks():
        left, top, across, down = window
        x = np.flatnonzero((columns >= left) & (columns < left + across))
        y = np.flatnonzero((rows >= top) & (rows < top + down))
        if len(x) and len(y):
            block = blended.read(window)
            small[np.ix_(y, x)] = block[np.ix_(rows[y] - top, columns[x] - left)]
    return small
