"""A raster file: its bands, its georeference, and its pixels in any window at any size."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from btcchat.errors import BTCChatError
from btcchat.media.raster.channels import Channels
from btcchat.media.raster.opening import Opening, raster_driver
from btcchat.media.raster.place import Bounds, Place
from btcchat.media.raster.shrink import shrink
from btcchat.media.reading import DEFAULT, Reading
from btcchat.media.source import Embedded, FileLike, existing_file

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.io import DatasetReader

Window: TypeAlias = tuple[float, float, float, float]  # left, top, width, height in pixels
Block: TypeAlias = tuple[int, int, int, int]  # the same, of whole pixels

MAX_THROUGH = 2**31  # pixels that one read may go through: a scene of 46,000 x 46,000 without overviews
MEANT = 4  # at least so many values in a row, and in a column, make a value of a smaller size
CHUNK = 2**20  # pixels that are in memory at a time while a window is made smaller
SURVEY = 2**20  # pixels that are looked at to recognise fill values and masks
SURVEY_PARTS = 8  # of each side of a larger raster


@dataclass
class Pixels:
    """What was read of a window."""

    values: np.ndarray  # (H, W, 1 or 3): grey, or red, green, blue
    valid: np.ndarray  # bool, of the same shape
    transform: "Affine"  # column and row of these pixels -> coordinates in the raster's CRS


class Raster:
    """``with Raster(path) as raster``: a TIFF or JPEG 2000 file, or a PNG or PPM of 16 bits.

    ``width`` and ``height`` are in pixels, ``channels`` has the facts of its bands. reading: which of them `read`
    gives, and what is no data. virtual: allow a path of GDAL's own file systems, such as /vsicurl/https://..., and with
    it the network. Raises BTCChatError for a file that cannot be read.
    """

    def __init__(self, source: FileLike, *, reading: Reading = DEFAULT, virtual: bool = False) -> None:
        if virtual and str(source).startswith("/vsi"):
            self.source: Path | Embedded = Path(str(source))
            driver: str | None = "JP2OpenJPEG" if str(source).lower().endswith((".jp2", ".j2k")) else "GTiff"
        else:
            self.source, virtual = existing_file(source, "image"), False
            driver = raster_driver(self.source)
        if driver is None:
            raise BTCChatError(
                f"image '{self.source}' is not a TIFF or JPEG 2000 file (nor a PNG or PPM of 16 bits); "
                "convert it: gdal_translate IN OUT.tif; btcchat caption and btcchat ask read images without coordinates"
            )
        self.name = str(self.source)
        self.has_windows = driver in ("GTiff", "JP2OpenJPEG")  # a part can be read without everything before it
        self._opening = Opening(self.source, driver, virtual=virtual)
        try:
            self._main = self._opening.dataset()
            self._overviews: dict[int, DatasetReader] = {}
            self.width, self.height = self._main.width, self._main.height
            with self._opening.reading():
                self.channels = Channels(self._main, reading, self.name)
            self._surveyed = False
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Raster":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._opening.close()

    @property
    def crs(self) -> "CRS | None":
        """The coordinate reference system, or None."""
        return self._main.crs

    @property
    def transform(self) -> "Affine":
        """Map column and row to coordinates in the CRS; the identity if the file is not georeferenced."""
        transform: Affine = self._main.transform
        return transform

    @property
    def placed_by(self) -> str | None:
        """ "gcps" or "rpcs" where ground control points or a sensor model alone say where it is."""
        if self.crs is not None and not self.transform.is_identity:
            return None
        return "gcps" if self._main.gcps[0] else "rpcs" if self._main.rpcs is not None else None

    @property
    def tags(self) -> dict[str, str]:
        """The metadata tags of the file."""
        with self._opening.reading():
            tags: dict[str, str] = self._main.tags()
        return tags

    @property
    def footprint(self) -> list[tuple[float, float]]:
        """The corners in the CRS: upper left, upper right, lower right, lower left."""
        a, b, c, d, e, f = self.transform[:6]
        corners = ((0, 0), (self.width, 0), (self.width, self.height), (0, self.height))
        return [(a * column + b * row + c, d * column + e * row + f) for column, row in corners]

    @property
    def bounds(self) -> Bounds:
        """Left, bottom, right, top of the footprint."""
        xs, ys = zip(*self.footprint, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def place(self) -> Place | None:
        """Where it lies; None if the file is not georeferenced."""
        if self.crs is None or self.transform.is_identity:
            return None
        return Place(self.name, self.crs, self.bounds)

    def read(self, window: Window | None = None, size: tuple[int, int] | None = None) -> Pixels:
        """The chosen bands of ``window`` (default: all), at ``size`` (width, height), which is at most the window's.

        A smaller size is read through the nearest larger overview, and each pixel is the mean of the valid values that
        it covers (of a share of them, where it covers more than 8 x 8). At full size values have the file's data type,
        or float32 where scale and offset are applied.
        Raises BTCChatError for a window that is not inside, and where too many pixels would be read.
        """
        left, top, width, height = window or (0, 0, self.width, self.height)
        full = math.ceil(width), math.ceil(height)
        size = size or full
        inside = min(left, top) >= 0 and left + width <= self.width and top + height <= self.height
        if not (inside and 1 <= size[0] <= full[0] and 1 <= size[1] <= full[1]):
            of = f"{self.width} x {self.height} pixels"
            raise BTCChatError(f"image '{self.name}' of {of} has no window {window} that makes {size[0]} x {size[1]}")
        self._survey()
        level = self._level(min(width / size[0], height / size[1]))
        across, down = level.width / self.width, level.height / self.height
        columns = np.linspace(left * across, (left + width) * across, size[0] + 1).round(6)
        rows = np.linspace(top * down, (top + height) * down, size[1] + 1).round(6)
        if (columns[-1] - columns[0]) * (rows[-1] - rows[0]) > MAX_THROUGH:
            raise BTCChatError(
                f"image '{self.name}' has {level.width} x {level.height} pixels to read, the limit is "
                f"{MAX_THROUGH:,}; add overviews (gdaladdo) or crop it"
            )
        values = np.empty(
            (size[1], size[0], self.channels.count),
            self._read_dtype((left, top, *size) == (int(left), int(top), width, height)),
        )
        valid = np.empty(values.shape, bool)
        for place, x, y in self._parts(level, columns, rows):
            values[place], valid[place] = self._part(level, x, y)
        a, b, c, d, e, f = self.transform[:6]
        x_step, y_step = width / size[0], height / size[1]
        corner = a * left + b * top + c, d * left + e * top + f
        transform = type(self.transform)(a * x_step, b * y_step, corner[0], d * x_step, e * y_step, corner[1])
        return Pixels(values, valid, transform)

    def _survey(self) -> None:
        """Sample the pixels if their meaning depends on their values."""
        channels = self.channels
        if self._surveyed or (not channels.looks_for_fills and channels.alpha is None):
            return
        self._surveyed = True
        stored, valid, alphas = [], [], []
        whole = (0, 0, self.width, self.height)
        blocks = [whole] if self.width * self.height <= SURVEY else self._survey_blocks()
        for block in blocks:
            try:
                pixels = self._stored(self._main, channels.chosen, block)
                seen = (channels.valid(pixels) & self._mask(self._main, block)).any(axis=2).ravel()
                alpha = None if channels.alpha is None else self._stored(self._main, (channels.alpha,), block).ravel()
            except BTCChatError:  # a damaged part, which is reported where it is read
                if block is whole:
                    blocks += self._survey_blocks()
                continue
            stored.append(pixels.reshape(-1, pixels.shape[2]))
            valid.append(seen)
            alphas += [] if alpha is None else [alpha]
        if not stored:
            return
        channels.survey(np.concatenate(stored), np.concatenate(valid), np.concatenate(alphas) if alphas else None)

    def _survey_blocks(self) -> list[Block]:
        width, height = (min(side, math.isqrt(SURVEY) // SURVEY_PARTS) for side in (self.width, self.height))
        lefts, tops = (
            sorted({int(place) for place in np.linspace(0, side - part, SURVEY_PARTS)})
            for side, part in ((self.width, width), (self.height, height))
        )
        return [(left, top, width, height) for top in tops for left in lefts]

    def _level(self, ratio: float) -> "DatasetReader":
        """The file, or its smallest overview that is at most ``ratio`` times smaller."""
        with self._opening.reading():
            factors = self._main.overviews(self.channels.chosen[0]) if ratio >= 2 else []
        for number in sorted(range(len(factors)), key=lambda number: -factors[number]):
            if not 1 < factors[number] <= ratio * 1.01:  # odd sizes are rounded
                continue
            if number not in self._overviews:
                self._overviews[number] = self._opening.dataset(overview_level=number)
            level = self._overviews[number]
            fits = 0.99 / ratio  # what a file calls an overview may have any size
            if fits <= level.width / self.width <= 0.6 and fits <= level.height / self.height <= 0.6:
                return level
        return self._main

    def _parts(
        self, level: "DatasetReader", columns: np.ndarray, rows: np.ndarray
    ) -> Iterator[tuple[tuple[slice, slice], np.ndarray, np.ndarray]]:
        """(place, edges of its columns, of its rows): parts of what is read that fit into memory."""
        width, height = len(columns) - 1, len(rows) - 1
        across, down = (columns[-1] - columns[0]) / width, (rows[-1] - rows[0]) / height
        in_strips = level.block_shapes[0][1] >= level.width  # reading a part of a strip decodes all of it
        part = width if in_strips else min(width, max(1, int(math.isqrt(CHUNK) / across)))
        high = max(1, int(CHUNK / (part * across * down)))
        for top in range(0, height, high):
            for left in range(0, width, part):
                y, x = rows[top : top + high + 1], columns[left : left + part + 1]
                yield (slice(top, top + len(y) - 1), slice(left, left + len(x) - 1)), x, y

    def _part(self, level: "DatasetReader", columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(values, valid) of the pixels between these edges."""
        left, top = int(columns[0] + 1e-6), int(rows[0] + 1e-6)
        right, bottom = (math.ceil(edges[-1] - 1e-6) for edges in (columns, rows))
        block = left, top, min(level.width, right) - left, min(level.height, bottom) - top
        ratio = min(block[2] / (len(columns) - 1), block[3] / (len(rows) - 1))
        step = max(1, int(ratio / MEANT))
        stored = self._stored(level, self.channels.chosen, block, step)
        values = self.channels.measured(stored)
        valid = np.broadcast_to(self.channels.valid(stored) & self._mask(level, block, step), values.shape)
        if self.channels.alpha is not None:
            valid = valid & (self._stored(level, (self.channels.alpha,), block, step) != 0)
        if (len(columns) - 1, len(rows) - 1) == block[2:]:
            return values, valid
        x, y = np.clip((columns - left) / step, 0, values.shape[1]), np.clip((rows - top) / step, 0, values.shape[0])
        means, valid = shrink(values, valid, y, x)
        return (means + 0.5 if values.dtype == np.uint8 else means), valid

    def _read_dtype(self, full: bool) -> np.dtype:
        channels = self.channels
        if not channels.deep:
            return np.dtype(np.uint8)
        if channels.scaled:
            return np.dtype(np.float32)
        return channels.dtype if full else np.result_type(channels.dtype, np.float32)  # 32-bit integers: float64

    def _stored(self, level: "DatasetReader", bands: tuple[int, ...], block: Block, step: int = 1) -> np.ndarray:
        """(H, W, B) as the file has them, of every ``step``-th row and column."""
        from rasterio.windows import Window as RasterioWindow

        with self._opening.reading():
            stored = level.read(list(bands), window=RasterioWindow(*block))
        return np.ascontiguousarray(stored[:, ::step, ::step].transpose(1, 2, 0), self.channels.dtype)

    def _mask(self, level: "DatasetReader", block: Block, step: int = 1) -> np.ndarray:
        """bool (H, W, 1): what the file's mask leaves, of every ``step``-th row and column."""
        from rasterio.windows import Window as RasterioWindow

        if not self.channels.has_mask:
            return np.ones((1, 1, 1), bool)
        with self._opening.reading():
            mask: np.ndarray = level.read_masks(self.channels.chosen[0], window=RasterioWindow(*block))
        kept: np.ndarray = mask[::step, ::step, None] != 0
        return kept
