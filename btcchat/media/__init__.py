"""Convert images and video to upright 8-bit RGB frames."""

from btcchat.media.frames import load_frames
from btcchat.media.images import load_image
from btcchat.media.raster import Raster
from btcchat.media.reading import Reading

__all__ = ["Raster", "Reading", "load_frames", "load_image"]
