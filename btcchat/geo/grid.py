"""The grid of a run: north-up pixels of one size over the area that all dates cover, in a CRS true to scale."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from affine import Affine
from pyproj import CRS
from shapely import Polygon, box, get_coordinates
from shapely.geometry.base import BaseGeometry

from btcchat.errors import BTCChatError
from btcchat.geo import projection
from btcchat.geo.scene import Scene

LOST = 0.01  # of a scene's side; a footprint that moves farther by a way to the grid's CRS and back is not in it
SQUARE = 0.01  # pixels whose sides differ by a smaller share count as square
LARGEST_SIDE = 2**20  # pixels


@dataclass(frozen=True)
class Grid:
    """``transform`` maps column and row to coordinates in the CRS; rows go south."""

    wkt: str
    transform: Affine
    width: int
    height: int

    @cached_property
    def crs(self) -> CRS:
        return CRS.from_wkt(self.wkt)

    @cached_property
    def gsd(self) -> float:
        """Ground sampling distance: the side of a pixel in metres on the ground, in the middle of the grid."""
        x, y = self.transform @ (self.width / 2, self.height / 2)
        return math.sqrt(-self.transform.a * self.transform.e) * projection.ground_unit(self.crs, x, y)

    @cached_property
    def up_is_north(self) -> bool:
        """Whether the top of the grid is its north, rather than another of the eight winds."""
        return abs(projection.bearing(self.crs, *self.transform @ (self.width / 2, self.height / 2))) < 22.5

    def polygon(self, left: float, top: float, width: float, height: float) -> Polygon:
        """The outline of a window of pixels, in the CRS."""
        x0, y0 = self.transform @ (left, top)
        x1, y1 = self.transform @ (left + width, top + height)
        return box(x0, y1, x1, y0)

    def outline(self) -> Polygon:
        return self.polygon(0, 0, self.width, self.height)

    def record(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "crs": projection.name(self.crs),
            "wkt": self.wkt,
            "transform": list(self.transform[:6]),
            "size": [self.width, self.height],
            "gsd": round(self.gsd, 6),
        }


@dataclass(frozen=True)
class Overlap:
    """The area that all dates cover, in the CRS of the grid. share: of the smallest date's area, 0 to 1."""

    shape: BaseGeometry
    share: float


def choose_grid(
    scenes: Sequence[Scene],
    *,
    gsd: float | None = None,
    crs: str | None = None,
    aoi: tuple[BaseGeometry, CRS] | None,
    smallest: int = 1,
) -> tuple[Grid, Overlap]:
    """The grid of the last date, unless ``gsd`` (metres on the ground) or ``crs`` asks for another.

    A geographic CRS, or one whose metres are not metres on the ground (Web Mercator), is replaced by the local UTM
    zone. aoi: an area to which the grid is cut, with its CRS. smallest: pixels a side that the grid keeps around a
    smaller area, where the dates have them. Raises BTCChatError if the dates do not overlap.
    """
    last = scenes[-1]
    target = _target(last, crs)
    overlap = _overlap(scenes, target)
    shape = overlap.shape
    if aoi is not None:
        shape = shape.intersection(projection.near(*aoi, target, overlap.shape))
        if shape.is_empty or not shape.area:
            inside, outside = (_place(one, crs) for one, crs in ((overlap.shape, target), aoi))
            raise BTCChatError(
                f"--aoi ({outside}) is outside the area that all dates cover ({inside}); check its coordinate system, "
                "and that longitude comes first"
            )
    x, y, across, down = _pixels(last, target, gsd, shape)
    (left, bottom, right, top), (west, south, east, north) = shape.bounds, overlap.shape.bounds
    first, end = _span((left - x) / across, (right - x) / across, (west - x) / across, (east - x) / across, smallest)
    upper, lower = _span((y - top) / down, (y - bottom) / down, (y - north) / down, (y - south) / down, smallest)
    width, height = end - first, lower - upper
    if max(width, height) > LARGEST_SIDE:
        raise BTCChatError(f"the grid would have {width:,} x {height:,} pixels; give a larger --gsd, or --aoi")
    transform = Affine(across, 0, x + first * across, 0, -down, y - upper * down)
    grid = Grid(target.to_wkt(), transform, max(0, width), max(0, height))
    if pole := projection.pole(target, grid.outline()):
        raise BTCChatError(
            f"the grid contains the {pole} pole, where tiles have no outline in longitude and latitude; "
            "give an --aoi beside it"
        )
    return grid, overlap


def _span(start: float, end: float, low: float, high: float, smallest: int) -> tuple[int, int]:
    """The whole pixels from ``start`` to ``end``. If they are fewer, ``smallest`` of those from ``low`` to ``high``."""
    first, last = math.ceil(start - 1e-3), math.floor(end + 1e-3)
    lowest, highest = math.ceil(low - 1e-3), math.floor(high + 1e-3)
    if last - first < smallest:
        first = max(lowest, min(first - (smallest - (last - first)) // 2, highest - smallest))
        last = min(highest, first + smallest)
    return first, last


def _place(shape: BaseGeometry, crs: CRS) -> str:
    lon, lat = projection.centre(shape, crs)
    if not math.isfinite(lon + lat):
        return f"around x {shape.centroid.x:.6g}, y {shape.centroid.y:.6g}"
    return f"around longitude {lon:.4f}, latitude {lat:.4f}"


def _target(scene: Scene, crs: str | None) -> CRS:
    shape = scene.footprint()
    if crs is None:
        if projection.is_true_to_scale(scene.crs, shape.centroid.x, shape.centroid.y):
            return scene.crs
        return projection.local_utm(*projection.centre(shape, scene.crs))
    try:
        target = CRS.from_user_input(crs)
    except Exception as error:
        if type(error).__name__ != "CRSError":
            raise
        raise BTCChatError(f"--crs {crs}: unknown coordinate system; give one such as EPSG:32633") from None
    if not target.is_projected:
        what = "in degrees" if target.is_geographic else "not a projected coordinate system"
        raise BTCChatError(f"--crs {crs} is {what}; give a projected one, such as the local UTM zone")
    return target


def _overlap(scenes: Sequence[Scene], target: CRS) -> Overlap:
    shapes = [_placed(scene, target) for scene in scenes]
    shared = shapes[0]
    for scene, shape in zip(scenes[1:], shapes[1:], strict=True):
        common = shared.intersection(shape)
        if not common.area > 0:
            places = [projection.centre(other, target) for other in (shapes[0], shape)]
            first, other = (f"{lat:.4f}, {lon:.4f}" for lon, lat in places)
            raise BTCChatError(
                f"{scenes[0].name} (around {first}) and {scene.name} (around {other}) do not overlap; "
                "check that they show the same place and that their coordinate systems are right"
            )
        shared = common
    return Overlap(shared, min(1.0, shared.area / min(shape.area for shape in shapes)))


def _placed(scene: Scene, target: CRS) -> Any:
    """The footprint of a scene in the CRS of the grid. Raises BTCChatError if it does not come back from there."""
    shape = scene.footprint()
    placed = projection.projected(shape, scene.crs, target)
    lost = np.abs(get_coordinates(projection.projected(placed, target, scene.crs)) - get_coordinates(shape))
    if turn := projection.turn(scene.crs):  # longitudes beyond 180 come back below it
        lost[:, 0] = np.abs(lost[:, 0] - turn * np.round(lost[:, 0] / turn))
    if not lost.max() <= LOST * math.sqrt(shape.area):
        raise BTCChatError(
            f"{scene.name} leaves the area for which its coordinate system or the grid's "
            f"({projection.name(target)}) is made; cut it, or warp it to one that "
            "fits: gdalwarp -t_srs EPSG:CODE IN OUT"
        )
    return placed


def _pixels(scene: Scene, target: CRS, gsd: float | None, shape: BaseGeometry) -> tuple[float, float, float, float]:
    """(x, y of a pixel's corner, width, height of a pixel) in ``target``; the scene's own if they can be kept."""
    a, b, c, d, e, f = scene.rasters[0].transform[:6]
    north_up = b == d == 0 and a > 0 > e and abs(a / -e - 1) < SQUARE
    if gsd is None and north_up and scene.crs == target:
        return c, f, a, -e
    if gsd is None:
        point = scene.footprint().centroid
        east, north = projection.metres(scene.crs, point.x, point.y)
        gsd = math.sqrt(abs(a * e - b * d) * east * north)
    middle = shape.centroid
    side = gsd / projection.ground_unit(target, middle.x, middle.y)
    if not 0 < side < math.inf:
        raise BTCChatError(f"--gsd {gsd}: expected metres on the ground, more than 0")
    if north_up and scene.crs == target and abs(side / a - 1) < 1e-6 and abs(side / -e - 1) < 1e-6:
        return c, f, a, -e
    left, _, _, top = shape.bounds
    return math.floor(left / side) * side, math.ceil(top / side) * side, side, side
