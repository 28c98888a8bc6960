"""changes.gpkg: the outlines of what the map says has changed, each with its area and its tile's caption."""

from pathlib import Path

from shapely import Polygon
from shapely.geometry import shape

from btcchat.geo.blend import BlendedMap
from btcchat.geo.log import TileLog
from btcchat.geo.outputs.cog import above
from btcchat.geo.outputs.vectors import Table
from btcchat.geo.projection import area
from btcchat.geo.rows import DONE, caption_of

COLUMNS = {"area_m2": float, "tile": int, "caption": str}
FEWEST = 4  # pixels of a polygon: fewer are specks of the interpolation


def change_polygons(path: Path, blended: BlendedMap, log: TileLog, threshold: float) -> Table:
    """Polygons of the map above the threshold, holes included. path: beside it is where a temporary file may be."""
    import rasterio
    from rasterio.features import shapes

    tiles = blended.tiles
    table = Table("changes", tiles.grid.crs, COLUMNS)
    pixel = -tiles.grid.transform.a * tiles.grid.transform.e
    with above(path, blended, threshold) as raster, rasterio.open(raster) as file:
        band = rasterio.band(file, 1)  # GDAL reads it row by row
        for outline, _ in shapes(band, mask=band, connectivity=4, transform=tiles.grid.transform):
            polygon = shape(outline)
            if polygon.area >= FEWEST * pixel:
                number = _tile(polygon, blended, log)
                caption = caption_of(log.row(number))
                row = {"area_m2": round(area(polygon, tiles.grid.crs), 1), "tile": number, "caption": caption}
                table.add(polygon, row)
    return table


def _tile(polygon: Polygon, blended: BlendedMap, log: TileLog) -> int:
    """The tile that shows a polygon best: of those that were captioned, the one whose centre is nearest."""
    tiles = blended.tiles
    point = polygon.representative_point()
    column, row = ~tiles.grid.transform * (point.x, point.y)
    nearest = tiles.nearest(column, row)
    if log.statuses.get(nearest) == DONE:
        return nearest
    around = tiles.touching((int(column), int(row), 1, 1))
    return next(number for number in around if log.statuses.get(number) == DONE)
