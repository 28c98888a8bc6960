"""A scene: the open files of one date and where they are on Earth."""

import os
from contextlib import ExitStack

import numpy as np
from pyproj import CRS
from shapely import Polygon

from btcchat.errors import BTCChatError
from btcchat.geo.clouds import CloudBand
from btcchat.geo.inputs import Files
from btcchat.geo.projection import quadrilateral
from btcchat.media.dates import scene_date
from btcchat.media.raster import Raster
from btcchat.media.reading import Reading

PLACED_BY = {
    "gcps": ("ground control points", "gdalwarp -tps"),
    "rpcs": ("a sensor model (RPC)", "gdalwarp -rpc"),
}


class Scene:
    """``with Scene(files, reading) as scene``: one raster, or several of one band each that together make a date.

    ``date`` is an ISO date, a year, or None. Raises BTCChatError for a file that cannot be read, or that is not
    georeferenced.
    """

    def __init__(self, files: Files, reading: Reading, date: str | None = None) -> None:
        self.name, self._stack = files.name, ExitStack()
        several = len(files.paths) > 1
        if several and reading.bands is not None:
            raise BTCChatError(
                f"{self.name}: --bands chooses among the bands of one file, but this date has several files"
            )
        reading = Reading((1,), reading.stretch, reading.nodata) if several else reading
        try:
            self.rasters = [
                self._stack.enter_context(Raster(path, reading=reading, virtual=files.remote)) for path in files.paths
            ]
            for raster in self.rasters:
                _check_placed(raster)
            self.offsets = files.offsets
            self.clouds = None if files.clouds is None else CloudBand(files.clouds)
            if self.clouds is not None:
                self._stack.callback(self.clouds.close)
            main = self.rasters[0]
            self.bands = sum(raster.channels.count for raster in self.rasters)  # bands shown
            self.stored_bands = sum(len(raster.channels.bands) for raster in self.rasters)
            self.deep = any(raster.channels.deep for raster in self.rasters)  # more than 8 bits, so it is stretched
            self.date = date or files.date or scene_date(main.tags, files.name)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Scene":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    @property
    def crs(self) -> CRS:
        return crs_of(self.rasters[0])

    @property
    def whole_range(self) -> tuple[float, float]:
        """The values that are black and white without a stretch."""
        return self.rasters[0].channels.whole_range

    def footprint(self) -> Polygon:
        """The area that all of its files cover, in its CRS."""
        shape = quadrilateral(self.rasters[0].footprint)
        for raster in self.rasters[1:]:
            if crs_of(raster) != self.crs:
                raise BTCChatError(
                    f"{raster.name} and {self.rasters[0].name} are bands of one date, but have different coordinate "
                    "systems; reproject one of them: gdalwarp -t_srs CRS IN OUT"
                )
            shape = shape.intersection(quadrilateral(raster.footprint))
        return shape

    def shown(self) -> str:
        """The bands that are red, green and blue, or one that is grey, for the plan."""
        if len(self.rasters) > 1:
            return "one of each file"
        return ", ".join(map(str, self.rasters[0].channels.chosen)) + f" of {self.stored_bands}"

    def record(self) -> dict[str, object]:
        """For run.json."""
        return {
            "name": self.name,
            "files": [_absolute(raster.name) for raster in self.rasters],
            "date": self.date,
            "clouds": self.clouds and self.clouds.name,
            "offsets": list(self.offsets),
            "crs": self.crs.to_string() if len(self.crs.to_string()) < 80 else self.crs.name,
            "size": [self.rasters[0].width, self.rasters[0].height],
            "bands": [list(raster.channels.chosen) for raster in self.rasters],
            "dtype": str(np.result_type(*(raster.channels.dtype for raster in self.rasters))),
        }


def _absolute(path: str) -> str:
    return path if path.startswith("/vsi") else os.path.abspath(path)


def crs_of(raster: Raster) -> CRS:
    if raster.crs is None:
        raise BTCChatError(
            f"image '{raster.name}' has no coordinate reference system; set it: gdal_edit.py -a_srs EPSG:CODE FILE; "
            "btcchat caption and btcchat ask need none"
        )
    return CRS.from_wkt(raster.crs.to_wkt())


def _check_placed(raster: Raster) -> None:
    if raster.placed_by is not None:
        by, command = PLACED_BY[raster.placed_by]
        raise BTCChatError(
            f"image '{raster.name}' is georeferenced only by {by}, which is not enough for a map; "
            f"rectify it first: {command} IN OUT"
        )
    crs_of(raster)
    if raster.transform.is_identity:
        raise BTCChatError(
            f"image '{raster.name}' has no geotransform, so the place of its pixels is unknown; "
            "set its corners: gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM FILE"
        )
