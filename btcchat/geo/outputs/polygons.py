"""changes.gpkg: outlines of the map above the threshold, each with its area and its tile's caption."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shapely import Polygon
from shapely.geometry import shape

from btcchat.geo.blend import BlendedMap
from btcchat.geo.log import TileLog
from btcchat.geo.outputs.cog import above
from btcchat.geo.outputs.vectors import Feature, Table
from btcchat.geo.projection import area
from btcchat.geo.rows import DONE, caption_of

COLUMNS = {"area_m2": float, "tile": int, "caption": str}
FEWEST = 4  # pixels of a polygon; smaller ones are artefacts of the interpolation


@dataclass
class Changes:
    """The polygons of a map above a threshold, with holes. They are found during iteration, which is possible once.

    path: a temporary file is written next to it. ``count`` and ``area`` (m²) are those of the polygons so far.
    """

    path: Path
    blended: BlendedMap
    log: TileLog
    threshold: float
    count: int = 0
    area: float = 0.0

    def table(self) -> Table:
        return Table("changes", self.blended.tiles.grid.crs, COLUMNS, self)

    def __iter__(self) -> Iterator[Feature]:
        import rasterio
        from rasterio.features import shapes

        grid = self.blended.tiles.grid
        least = FEWEST * -grid.transform.a * grid.transform.e
        with above(self.path, self.blended, self.threshold) as raster, rasterio.open(raster) as file:
            band = rasterio.band(file, 1)  # GDAL reads it row by row
            for outline, _ in shapes(band, mask=band, connectivity=4, transform=grid.transform):
                polygon = shape(outline)
                if polygon.area >= least:
                    number, size = _tile(polygon, self.blended, self.log), round(area(polygon, grid.crs), 1)
                    self.count, self.area = self.count + 1, self.area + size
                    yield polygon, {"area_m2": size, "tile": number, "caption": caption_of(self.log.row(number))}


def _tile(polygon: Polygon, blended: BlendedMap, log: TileLog) -> int:
    """The tile that shows a polygon best: of the finished ones, the tile whose centre is nearest."""
    tiles = blended.tiles
    point = polygon.representative_point()
    column, row = ~tiles.grid.transform @ (point.x, point.y)
    nearest = tiles.nearest(column, row)
    if log.statuses.get(nearest) == DONE:
        return nearest
    around = tiles.touching((int(column), int(row), 1, 1))
    return next(number for number in around if log.statuses.get(number) == DONE)
