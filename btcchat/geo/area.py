"""--aoi: the area that a run is about, from any file of polygons."""

from pathlib import Path

import shapely
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from btcchat.errors import BTCChatError
from btcchat.geo.projection import LONLAT
from btcchat.media.source import existing_file


def read_area(path: str | Path) -> tuple[BaseGeometry, CRS]:
    """All polygons of a file (GeoJSON, GeoPackage, Shapefile, ...) as one, and their CRS."""
    from pyogrio.errors import DataLayerError, DataSourceError
    from pyogrio.raw import read

    existing_file(path, "area")
    try:
        about, _, geometry, _ = read(str(path), columns=[])
        shapes = shapely.from_wkb(geometry)
    except (DataSourceError, DataLayerError, shapely.errors.ShapelyError, ValueError, TypeError) as error:
        raise BTCChatError(f"--aoi {path} has no polygons that can be read: {' '.join(str(error).split())}") from error
    polygons = [shape for shape in shapes if shape is not None and shape.geom_type in ("Polygon", "MultiPolygon")]
    if not polygons:
        raise BTCChatError(f"--aoi {path} has no polygon; an area is one or more of them")
    crs = CRS.from_user_input(about["crs"]) if about.get("crs") else LONLAT
    if crs.to_epsg() == 4326:
        crs = LONLAT  # as files have it: longitude first
    return shapely.union_all([shapely.make_valid(shape) for shape in polygons]), crs
