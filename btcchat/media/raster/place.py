"""Where an image lies on the map."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rasterio.crs import CRS

Bounds: TypeAlias = tuple[float, float, float, float]  # left, bottom, right, top


@dataclass(frozen=True)
class Place:
    """name: of the file. bounds: in the CRS."""

    name: str
    crs: "CRS"
    bounds: Bounds


def apart(first: Place, second: Place) -> bool:
    """Whether two places do not overlap; False if they cannot be compared."""
    one, other = first.bounds, second.bounds
    if first.crs != second.crs:
        one, other = _degrees(first), _degrees(second)
    # West of a place that crosses the 180th meridian is more than its east.
    if not all(map(math.isfinite, one + other)) or one[0] > one[2] or other[0] > other[2]:
        return False
    return one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] or other[1] >= one[3]


def _degrees(place: Place) -> Bounds:
    """Its bounds in longitude and latitude; NaN if they cannot be computed."""
    import rasterio
    from rasterio._err import CPLE_BaseError
    from rasterio.warp import transform_bounds

    try:
        bounds: Bounds = transform_bounds(place.crs, "EPSG:4326", *place.bounds)
    except (rasterio.errors.RasterioError, CPLE_BaseError, ValueError):
        return math.nan, math.nan, math.nan, math.nan
    return bounds
