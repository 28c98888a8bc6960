"""Images and video in; upright 8-bit RGB frames out."""

from btcchat.media.frames import load_frames
from btcchat.media.images import load_image

__all__ = ["load_frames", "load_image"]
