"""Images, rasters and video in; upright 8-bit RGB frames out."""

from btcchat.media.images import load_frames, load_image

__all__ = ["load_frames", "load_image"]
