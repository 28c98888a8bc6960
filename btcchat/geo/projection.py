"""Coordinate systems, metres on the ground and geodesic areas, with pyproj."""

from functools import cache
from typing import Any

import numpy as np
from pyproj import CRS, Geod, Transformer
from pyproj.aoi import AreaOfInterest
from pyproj.database import query_utm_crs_info
from pyproj.exceptions import ProjError
from shapely import MultiPolygon, Point, Polygon, box, get_parts, make_valid, segmentize, transform, union_all
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from btcchat.errors import BTCChatError

GEOD = Geod(ellps="WGS84")
LONLAT = CRS("OGC:CRS84")  # degrees, longitude first: the order of GeoJSON
LARGEST_ERROR = 0.005  # relative error of a length in a CRS that counts as true to scale
POLAR = 84.0  # degrees; nearer to a pole, the straight edges of a tile are curves in longitude and latitude
EDGE = 64  # parts of an outline whose edges become curves
UPS = {True: 32661, False: 32761}  # polar stereographic: north of UTM, south of UTM


def to_lonlat(crs: CRS) -> Transformer:
    return _transformer(crs.to_wkt(), LONLAT.to_wkt())


def between(source: CRS, target: CRS) -> Transformer:
    return _transformer(source.to_wkt(), target.to_wkt())


@cache
def _transformer(source: str, target: str) -> Transformer:
    try:
        return Transformer.from_crs(source, target, always_xy=True)
    except ProjError as error:
        raise BTCChatError(
            f"coordinate system '{CRS(source).name[:60]}' cannot be transformed to '{CRS(target).name[:60]}'; if one "
            "is a local one without a place on Earth, set it: gdal_edit.py -a_srs EPSG:CODE FILE"
        ) from error


def projected(shape: BaseGeometry, source: CRS, target: CRS) -> Any:
    """A shape in another CRS. Long edges may become curves: first add points to them (`shapely.segmentize`)."""
    change = between(source, target)

    def points(xy: np.ndarray) -> np.ndarray:
        return np.column_stack(change.transform(xy[:, 0], xy[:, 1]))

    return transform(shape, points)


def near(shape: BaseGeometry, source: CRS, target: CRS, place: BaseGeometry) -> Any:
    """The part of a shape around ``place``, a shape in ``target``, in that CRS. Its long edges become curves.

    Far from its own area, a CRS has no coordinates.
    """
    back = projected(segmentize(place, place.length / EDGE), target, source)
    west, south, east, north = back.bounds
    side = max(east - west, north - south)
    around = [
        box(west - side + whole, south - side, east + side + whole, north + side)
        for whole in ((turn(source) or 0) * number for number in (-1, 0, 1))  # longitudes may be beyond 180
    ]
    return projected(segmentize(shape.intersection(union_all(around)), side / EDGE), source, target)


def lonlat(polygon: Polygon, crs: CRS) -> Polygon | MultiPolygon:
    """A polygon in longitude and latitude by RFC 7946: counterclockwise, and cut in two at the 180th meridian.

    It does not contain a pole (`grid.choose_grid` refuses those).
    """
    shape = projected(polygon, crs, LONLAT)
    if np.abs(shape.bounds[1::2]).max() > POLAR:
        shape = projected(segmentize(polygon, polygon.length / EDGE), crs, LONLAT)
    west, _, east, _ = shape.bounds
    if east - west < 180:
        return orient(shape)
    unrolled = make_valid(transform(shape, lambda xy: np.column_stack([xy[:, 0] % 360, xy[:, 1]])))
    eastern = unrolled.intersection(box(0, -90, 180, 90))
    western = transform(unrolled.intersection(box(180, -90, 360, 90)), lambda xy: xy - [360, 0])
    parts = [*get_parts(eastern), *get_parts(western)]
    return MultiPolygon([orient(part) for part in parts if part.geom_type == "Polygon"])


def pole(crs: CRS, polygon: BaseGeometry) -> str | None:
    """north or south if a polygon in ``crs`` contains or touches that pole."""
    for name, lat in (("north", 90.0), ("south", -90.0)):
        x, y = between(LONLAT, crs).transform(0.0, lat)
        if np.isfinite((x, y)).all() and polygon.intersects(Point(x, y)):
            return name
    return None


def turn(crs: CRS) -> float | None:
    """360 degrees in the units of a geographic CRS; None for a projected one."""
    return 2 * np.pi / float(crs.axis_info[0].unit_conversion_factor) if crs.is_geographic else None


def metres(crs: CRS, x: float, y: float) -> tuple[float, float]:
    """The length on the ground, in metres, of one unit of x and one unit of y at a place."""
    step = 1e-4 if crs.is_geographic else 10.0
    lon, lat = to_lonlat(crs).transform([x, x + step, x], [y, y, y + step])
    east, north = (GEOD.inv(lon[0], lat[0], lon[end], lat[end])[2] for end in (1, 2))
    return east / step, north / step


def bearing(crs: CRS, x: float, y: float) -> float:
    """The direction of y at a place, in degrees clockwise from north, -180 to 180: in polar systems it may be any."""
    lon, lat = to_lonlat(crs).transform([x, x], [y, y + 10.0])
    return float(GEOD.inv(lon[0], lat[0], lon[1], lat[1])[0])


def unit(crs: CRS) -> float:
    """The unit of a projected CRS in metres, as the CRS defines it: 0.3048 for feet."""
    return float(crs.axis_info[0].unit_conversion_factor)


def ground_unit(crs: CRS, x: float, y: float) -> float:
    """The unit of a projected CRS in metres on the ground at a place: `unit`, unless the CRS is not true to scale."""
    return unit(crs) if is_true_to_scale(crs, x, y) else float(np.prod(metres(crs, x, y)) ** 0.5)


def is_true_to_scale(crs: CRS, x: float, y: float) -> bool:
    """Whether lengths in ``crs`` are lengths on the ground. In geographic systems and Web Mercator they are not."""
    if not crs.is_projected:
        return False
    operation = crs.coordinate_operation
    if operation is not None and "pseudo" in operation.method_name.lower():
        return False  # Web Mercator is true to scale at the equator only
    return all(abs(length / unit(crs) - 1) <= LARGEST_ERROR for length in metres(crs, x, y))


def local_utm(lon: float, lat: float) -> CRS:
    """The UTM zone of a place on WGS 84; near the poles, the polar stereographic system."""
    lon = (lon + 180) % 360 - 180
    place = AreaOfInterest(lon, lat, lon, lat)
    found = query_utm_crs_info(datum_name="WGS 84", area_of_interest=place) if -80 <= lat <= 84 else []
    return CRS.from_epsg(found[0].code if found else UPS[lat > 0])


def area(polygon: BaseGeometry, crs: CRS) -> float:
    """Geodesic area in m²."""
    return abs(float(GEOD.geometry_area_perimeter(projected(polygon, crs, LONLAT))[0]))


def name(crs: CRS) -> str:
    """Such as ``EPSG:32633``; the name of a CRS without a code."""
    authority = crs.to_authority(min_confidence=70)
    return ":".join(authority) if authority else str(crs.name)


def centre(polygon: BaseGeometry, crs: CRS) -> tuple[float, float]:
    """Longitude and latitude of a shape's centre."""
    point = polygon.centroid
    lon, lat = to_lonlat(crs).transform(point.x, point.y)
    return float(lon), float(lat)


def quadrilateral(corners: list[tuple[float, float]], points: int = 20) -> Polygon:
    """A polygon with about ``points`` points per edge, so that its edges can become curves in another CRS."""
    shape = Polygon(corners)
    return segmentize(shape, shape.length / (4 * points))
