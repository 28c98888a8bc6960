"""A scene's pixels on the grid, one window at a time.

A window is read by `media.raster.Raster` and then resampled by GDAL's warper (`rasterio.warp.reproject`), so only the
pixels that it needs are read. rasterio's WarpedVRT is just as lazy, but it resamples what the file stores: it knows the
no-data tag and the mask, but not the fill values without a tag that `Raster` finds, which would be blended into their
neighbours; it would also blend the indices of a palette, and take any fourth band marked as alpha for a mask.
"""

import math
from dataclasses import dataclass

import numpy as np
from affine import Affine
from shapely import Polygon, prepare

from btcchat.errors import BTCChatError
from btcchat.geo.grid import Grid
from btcchat.geo.projection import between, projected, quadrilateral, turn
from btcchat.geo.scene import Scene, crs_of
from btcchat.geo.tiles import Part, Window
from btcchat.media.raster import Raster

RESAMPLING = "bilinear"
PAD = 3  # source pixels around a window that the resampling needs
MOST_LOST = 0.02  # share of a window's pixels that a warp may lose inside the footprint


@dataclass
class Warped:
    """values: float32 (H, W, B), with scale and offsets applied. valid: bool (H, W)."""

    values: np.ndarray
    valid: np.ndarray


class OnGrid:
    """A scene on a grid. shift: how far it is moved right and down, in pixels of the grid."""

    def __init__(self, scene: Scene, grid: Grid, shift: tuple[float, float] = (0.0, 0.0)) -> None:
        self.scene, self.grid = scene, grid
        self._transform = grid.transform @ Affine.translation(-shift[0], -shift[1])
        self._layers = [_Layer(raster, grid, self._transform) for raster in scene.rasters]

    @property
    def resampled(self) -> bool:
        """Whether its pixels differ from the grid's, so that they are resampled."""
        return any(layer.offset is None for layer in self._layers)

    def read(self, window: Part, size: tuple[int, int] | None = None) -> Warped:
        """A window of the grid, at ``size`` (width, height) if that is smaller.

        Raises BTCChatError for a damaged file, and for a warp that loses pixels inside the footprint.
        """
        size = size or (round(window[2]), round(window[3]))
        parts = [layer.read(window, size) for layer in self._layers]
        values = np.concatenate([values for values, _ in parts], axis=2)
        if self.scene.offsets:
            values = values + np.asarray(self.scene.offsets, np.float32)
        valid = np.logical_and.reduce([valid for _, valid in parts])
        if self.scene.clouds is not None:
            valid &= self.scene.clouds.clear(self.grid.wkt, _part_of(self._transform, window, size), size)
        return Warped(values, valid)


class _Layer:
    """One file on the grid."""

    def __init__(self, raster: Raster, grid: Grid, transform: Affine) -> None:
        self.raster, self.grid, self.transform = raster, grid, transform
        self._to_source = between(grid.crs, crs_of(raster))
        self._footprint: Polygon = projected(quadrilateral(raster.footprint), crs_of(raster), grid.crs)
        prepare(self._footprint)
        self._turn = turn(crs_of(raster))
        self.offset = self._whole_offset()

    def _whole_offset(self) -> tuple[int, int] | None:
        """Columns and rows from the raster's first pixel to the grid's; None if their pixels differ."""
        if crs_of(self.raster) != self.grid.crs:
            return None
        own = ~self.raster.transform @ self.transform
        far = own @ (self.grid.width, self.grid.height)
        same = abs(own.b) < 1e-9 and abs(own.d) < 1e-9 and own.a > 0 and own.e > 0
        drift = (far[0] - own.c - self.grid.width, far[1] - own.f - self.grid.height)
        whole = all(abs(value - round(value)) < 1e-3 for value in (own.c, own.f)) and max(map(abs, drift)) < 1e-3
        return (round(own.c), round(own.f)) if same and whole else None

    def read(self, window: Part, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """-> values float32 (H, W, B), valid (H, W)."""
        left, top, width, height = window
        if self.offset is not None:
            x, y = left + self.offset[0], top + self.offset[1]
            if min(x, y) >= 0 and x + width <= self.raster.width and y + height <= self.raster.height:
                pixels = self.raster.read((x, y, width, height), size)
                return pixels.values.astype(np.float32), _all_bands(pixels.valid, 2)
        target = _part_of(self.transform, window, size)
        values, valid, covered = self._warped(target, size)
        self._check_covered(target, size, covered)
        return values, valid

    def _warped(self, target: Affine, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """values, valid, and which pixels the raster covers."""
        from rasterio.enums import Resampling
        from rasterio.warp import reproject

        bands, area = self.raster.channels.count, size[::-1]
        source = self._source_window(target, size)
        if source is None:
            return np.zeros((*area, bands), np.float32), np.zeros(area, bool), np.zeros(area, bool)
        pixels = self.raster.read(*source)
        stored = pixels.values.transpose(2, 0, 1).astype(np.float32)
        options = {"src_transform": pixels.transform, "src_crs": self.raster.crs}
        options |= {"dst_transform": target, "dst_crs": self.grid.wkt, "resampling": Resampling[RESAMPLING]}
        if pixels.valid.all():  # three times as fast
            options["init_dest_nodata"] = False
        else:  # an extra band of ones shows where the raster is
            known = np.where(pixels.valid.transpose(2, 0, 1), stored, np.nan)
            stored = np.concatenate([known, np.ones_like(stored[:1])])
            options |= {"src_nodata": np.nan, "dst_nodata": np.nan}
        warped, _ = reproject(stored, np.full((len(stored), *area), np.nan, np.float32), **options)
        known = np.isfinite(warped)
        valid = _all_bands(known, 0)
        values = np.where(valid, warped[:bands], np.float32(0)).transpose(1, 2, 0)
        return values if self.raster.channels.deep else values.round(), valid, known[-1]

    def _source_window(self, target: Affine, size: tuple[int, int]) -> tuple[Window, tuple[int, int]] | None:
        """The part of the raster that a window needs, and the size at which to read it; None if they do not overlap."""
        columns, rows = (np.linspace(0, length, 9) for length in size)
        x, y = np.meshgrid(columns, rows)
        xs, ys = target @ (x.ravel(), y.ravel())
        xs, ys = map(np.asarray, self._to_source.transform(xs, ys))
        if self._turn is not None:  # a raster may have longitudes beyond 180; the window's are those nearest to them
            middle, _ = self.raster.transform @ (self.raster.width / 2, self.raster.height / 2)
            xs = xs + self._turn * np.round((middle - xs) / self._turn)
        across, down = ~self.raster.transform @ (xs, ys)
        if not (np.isfinite(across).all() and np.isfinite(down).all()):
            raise BTCChatError(
                f"image '{self.raster.name}' cannot be resampled to the grid's coordinate system; give another --crs"
            )
        ratio = max(1.0, min(np.ptp(across) / size[0], np.ptp(down) / size[1]))
        pad = math.ceil(PAD * ratio)
        left, right = max(0, math.floor(across.min()) - pad), min(self.raster.width, math.ceil(across.max()) + pad)
        top, bottom = max(0, math.floor(down.min()) - pad), min(self.raster.height, math.ceil(down.max()) + pad)
        if right <= left or bottom <= top:
            return None
        window = left, top, right - left, bottom - top
        if ratio < 2:  # the warper averages pixels that are only slightly finer
            return window, window[2:]
        return window, (max(1, round(window[2] / ratio)), max(1, round(window[3] / ratio)))

    def _check_covered(self, target: Affine, size: tuple[int, int], covered: np.ndarray) -> None:
        x0, y0 = target @ (0, 0)
        x1, y1 = target @ size
        window = Polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        expected = 1.0 if self._footprint.contains(window) else self._footprint.intersection(window).area / window.area
        if covered.mean() < expected - MOST_LOST - 2 / min(size):  # and a pixel at each edge
            raise BTCChatError(
                f"image '{self.raster.name}' covers {expected:.0%} of the window, but after resampling only "
                f"{covered.mean():.0%} has values; choose another --crs"
            )


def _part_of(transform: Affine, window: Part, size: tuple[int, int]) -> Affine:
    """Where the ``size`` (width, height) pixels of a window lie."""
    left, top, width, height = window
    return transform @ Affine.translation(left, top) @ Affine.scale(width / size[0], height / size[1])


def _all_bands(valid: np.ndarray, axis: int) -> np.ndarray:
    return np.asarray(valid.all(axis=axis))
