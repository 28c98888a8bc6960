"""Clouds and their shadows, from the quality band of a product: Sentinel-2's SCL (level 2A), Landsat's QA_PIXEL."""

from pathlib import Path

import numpy as np
from affine import Affine

from btcchat.errors import BTCChatError
from btcchat.media.raster.opening import Opening, raster_driver
from btcchat.media.source import existing_file

CLOUDS = {
    "mask": "clouds and their shadows are no data where a product folder has a quality band (SCL or QA_PIXEL)",
    "keep": "they are shown to the model",
}
# ESA, Sentinel-2 Products Specification: saturated, cloud shadow, cloud (medium and high probability), thin cirrus.
SCL = (1, 3, 8, 9, 10)
# USGS, Landsat 8-9 Collection 2 Level 2 Product Guide: dilated cloud, cirrus, cloud, cloud shadow.
QA_PIXEL_BITS = (1, 2, 3, 4)


class CloudBand:
    """The quality band of a date. Raises BTCChatError for a file that cannot be read."""

    def __init__(self, path: str) -> None:
        source = existing_file(path, "image")
        self.name, self._is_scl = Path(path).name, "_SCL_" in Path(path).name
        self._no_data = 0 if self._is_scl else 1
        self._opening = Opening(source, raster_driver(source) or "GTiff")
        try:
            self._file = self._opening.dataset()
            if np.dtype(self._file.dtypes[0]).kind not in "ui":
                raise BTCChatError(
                    f"{path} has values of type {self._file.dtypes[0]}, but the classes of a quality band are "
                    "whole numbers; get the file again, or give --clouds keep"
                )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._opening.close()

    def clear(self, crs: str, transform: Affine, size: tuple[int, int]) -> np.ndarray:
        """bool (H, W): where ``size`` (width, height) pixels in ``crs``, placed by ``transform``, show the ground.

        A pixel has the class at its centre, because classes cannot be averaged.
        """
        import rasterio
        from rasterio.enums import Resampling
        from rasterio.warp import reproject

        with self._opening.reading():
            classes = np.full(size[::-1], self._no_data, self._file.dtypes[0])
            reproject(
                rasterio.band(self._file, 1),
                classes,
                dst_crs=crs,
                dst_transform=transform,
                src_nodata=self._no_data,
                dst_nodata=self._no_data,
                resampling=Resampling.nearest,
            )
        hidden = np.isin(classes, SCL) if self._is_scl else (classes & sum(1 << bit for bit in QA_PIXEL_BITS)) != 0
        clear: np.ndarray = ~(hidden | (classes == self._no_data))
        return clear
