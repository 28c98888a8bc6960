"""TIFF and JPEG 2000, and PNG and PPM of more than 8 bits a band, through GDAL."""

from btcchat.media.raster.channels import Band
from btcchat.media.raster.opening import raster_driver
from btcchat.media.raster.place import Place, apart
from btcchat.media.raster.raster import Pixels, Raster

__all__ = ["Band", "Pixels", "Place", "Raster", "apart", "raster_driver"]
