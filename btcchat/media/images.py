"""Image files, and images in memory -> 8-bit RGB images, or one clear line.

Grey and palette become RGB, EXIF rotation is applied, transparency becomes black (the colour of no data), more than
8 bits a band are stretched (radiometry.py). Of a file with several pages or animation frames the first one counts.
"""

import logging
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from btcchat.errors import BTCChatError, wrong_type
from btcchat.media import radiometry, tiff
from btcchat.media.arrays import image_of_array, is_array
from btcchat.media.source import VIDEO_SUFFIXES, Embedded, FileLike, existing_file

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

MAX_PIXELS = 128 * 2**20  # a full Sentinel-2 tile (10980 x 10980 = 121 million) fits, a decompression bomb does not
# Beside TIFF. Named, so that Pillow tries no others: PostScript, for one, would be run.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "JPEG2000", "PPM")
# What Pillow's decoders raise on damaged files (UnidentifiedImageError is an OSError).
_FAULTS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError, struct.error,
    zlib.error,
)  # fmt: skip


# A path, a file inside a file, a PIL image, a numpy array (H, W) or (H, W, 3), or a torch tensor (3, H, W).
ImageLike: TypeAlias = Union[FileLike, Image.Image, np.ndarray, "Tensor"]  # noqa: UP007 - a name in quotes


def load_image(source: ImageLike, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An image -> upright 8-bit RGB. Raises BTCChatError for what is unreadable or over the limit.

    Arrays and tensors are uint8, or floating point in 0..1. Raises TypeError for what is no image.
    """
    check_type(source, "source")
    if is_array(source):
        source = image_of_array(source)
    if isinstance(source, Image.Image):
        return _decoded(source, "in memory", max_pixels)
    path = existing_file(source, "image")
    with _opened(path) as image:
        return _decoded(image, str(path), max_pixels)


def check_type(source: object, name: str) -> None:
    """Raise TypeError, which has ``name`` in it, where ``source`` is nothing that `load_image` takes."""
    if not isinstance(source, str | os.PathLike | Embedded | Image.Image) and not is_array(source):
        raise wrong_type(name, source, "a path, a PIL image, a numpy array or a torch tensor")


@contextmanager
def _opened(path: Path | Embedded) -> Iterator[Image.Image]:
    """Image.open with a clear line. Pillow's warnings (its own size limit, odd metadata) are left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            file = path.open() if isinstance(path, Embedded) else path
            image = tiff.open_tiff(path, file) if _is_tiff(path) else Image.open(file, formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise BTCChatError(f"image '{path}' is too large: {_line(error)}") from error
        except PermissionError as error:
            raise BTCChatError(f"image '{path}' may not be read: permission denied") from error
        except BTCChatError:
            raise
        except _FAULTS as error:
            raise BTCChatError(_unreadable(path)) from error
        with image:
            yield image


def _unreadable(path: Path | Embedded) -> str:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return f"image '{path}' is a video file; give it as a video"
    return f"'{path}' is not an image that can be read (PNG, JPEG, TIFF, WebP, BMP, GIF, JPEG 2000, PPM)"


def _is_tiff(path: Path | Embedded) -> bool:
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _decoded(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    size = f"{image.width} x {image.height}"
    if image.width * image.height > max_pixels:
        raise BTCChatError(
            f"image '{name}' has {size} = {image.width * image.height:,} pixels, the limit is {max_pixels:,}; "
            "crop it or make it smaller"
        )
    try:
        if isinstance(image, TiffImageFile):
            tiff.check(image, name)
        elif getattr(image, "is_animated", False):
            log.info("%s has %d frames; the first one is read", name, getattr(image, "n_frames", 0))
        return _to_rgb(image, name)
    except BTCChatError:
        raise
    except _FAULTS as error:
        raise BTCChatError(f"image '{name}' ({size}) is truncated or damaged: {_line(error)}") from error


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if radiometry.is_deep(image):
        rgb = radiometry.deep_to_rgb(image, name)
        # Read after loading: Pillow turns a TIFF itself, and forgets the tag.
        rgb.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
        return ImageOps.exif_transpose(rgb)
    image = ImageOps.exif_transpose(image)
    if image.mode == "La":  # premultiplied grey; Pillow knows only this way out of it
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
    return image.convert("RGB")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
