"""--aoi: read the area of interest from a file of polygons."""

from pathlib import Path

import shapely
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from btcchat.errors import BTCChatError
from btcchat.geo.projection import LONLAT
from btcchat.limits.regular import check_utf8
from btcchat.media.source import existing_file

POLYGON = 3  # shapely's number of the type; those of several parts, and collections, are higher


def read_area(path: str | Path) -> tuple[BaseGeometry, CRS]:
    """The union of all polygons in a file (GeoJSON, GeoPackage, Shapefile, ...), and its CRS. Raises BTCChatError.

    Polygons in collections count; points, lines and empty polygons do not.
    """
    from pyogrio import list_layers
    from pyogrio.errors import DataLayerError, DataSourceError
    from pyogrio.raw import read

    existing_file(path, "area")
    check_utf8(path, f"--aoi {path}")
    try:
        layers = [name for name, kind in list_layers(str(path)) if kind is not None]  # None: a table
        about, _, geometry, _ = read(str(path), layer=layers[0] if layers else None, columns=[])
        shapes = () if geometry is None else shapely.from_wkb(geometry)
    except (DataSourceError, DataLayerError, shapely.errors.ShapelyError, ValueError, TypeError) as error:
        raise BTCChatError(f"--aoi {path} has no readable polygons: {' '.join(str(error).split())}") from error
    if len(layers) > 1:
        raise BTCChatError(
            f"--aoi {path} has several layers: {', '.join(layers)[:80]}; save the one you mean to a file"
        )
    parts = shapely.get_parts(shapes)
    while (shapely.get_type_id(parts) > POLYGON).any():  # a part may be a collection itself
        parts = shapely.get_parts(parts)
    polygons = parts[(shapely.get_type_id(parts) == POLYGON) & ~shapely.is_empty(parts)]
    if not len(polygons):
        raise BTCChatError(f"--aoi {path} has no polygon; give a file with at least one")
    crs = CRS.from_user_input(about["crs"]) if about.get("crs") else LONLAT
    if crs.to_epsg() == 4326:
        crs = LONLAT  # files have longitude first, whatever EPSG says
    return shapely.union_all(shapely.make_valid(polygons)), crs
