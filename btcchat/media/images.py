"""Read image files, and images in memory, as 8-bit RGB images; errors are one clear line.

GDAL reads TIFF, JPEG 2000 and images of more than 8 bits (raster/), Pillow the rest. Grey and palette become RGB, EXIF
rotation is applied, transparency and no data become black, more than 8 bits a band are stretched (radiometry.py). Of a
file with several pages or animation frames the first one counts.
"""

import logging
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin

from btcchat.errors import BTCChatError, wrong_type
from btcchat.media.arrays import image_of_array, is_array
from btcchat.media.notes import once
from btcchat.media.radiometry import Deep, stretched, whole_range
from btcchat.media.raster import Place, Raster, apart, raster_driver
from btcchat.media.reading import DEFAULT, NO_NODATA, Reading
from btcchat.media.source import VIDEO_SUFFIXES, Embedded, FileLike, existing_file

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

MAX_PIXELS = 128 * 2**20  # allows a full Sentinel-2 tile (10980 x 10980 = 121 million) but not a decompression bomb
MOST_PIXELS = 2 * MAX_PIXELS  # in all images of a sample, which are in memory together
MAX_SIDE = 2048  # pixels of the longer side; no vision tower uses more; see `reduced`
# Listed, so that Pillow tries no other formats: PostScript, for one, would be executed.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "AVIF", "PPM")
# Errors that Pillow's decoders raise for damaged files (UnidentifiedImageError is an OSError).
_FAULTS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError, struct.error,
    zlib.error,
)  # fmt: skip


# A path, a file inside a file, a PIL image, a numpy array (H, W) or (H, W, 3), or a torch tensor (3, H, W).
ImageLike: TypeAlias = Union[FileLike, Image.Image, np.ndarray, "Tensor"]  # noqa: UP007 - a name in quotes


def load_image(
    source: ImageLike, *, reading: Reading = DEFAULT, max_side: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Read an image as upright 8-bit RGB. Raises BTCChatError if it is unreadable or over the limit.

    Arrays and tensors are uint8, or floating point in 0..1. max_side: a raster of at least twice that many pixels a
    side is read smaller, as is one of more than ``max_pixels``; see `reduced`. Its ``info`` records how it was read:
    "bands" (numbers from 1), "range" (the values that became black and white), "full_size" (width, height). Raises
    TypeError if ``source`` is not an image.
    """
    return load_images([source], reading=reading, max_side=max_side, max_pixels=max_pixels)[0]


def load_images(
    sources: Sequence[ImageLike],
    *,
    reading: Reading = DEFAULT,
    max_side: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> list[Image.Image]:
    """The dates of one sample, stretched together; see `load_image`."""
    opened: list[_Opened] = []
    total = 0
    for source in sources:
        opened.append(_open(source, reading, max_side, max_pixels))
        total += opened[-1].num_pixels
        if len(sources) > 1 and total > MOST_PIXELS:
            raise BTCChatError(
                f"the first {len(opened)} of {len(sources)} images have {total:,} pixels together, but a sample may "
                f"only have {MOST_PIXELS:,}; crop them or make them smaller"
            )
    _check_places(opened)
    deep = [image.pixels for image in opened if isinstance(image.pixels, Deep)]
    if 0 < len(deep) < len(opened) and reading.stretch != "none":
        note = "has more than 8 bits and is stretched, other dates have 8 bits and are not, so their grey levels differ"
        once(log, note, deep[0].name, logging.WARNING)
    frames = iter(stretched(deep, reading.stretch))
    return [image.shown(next(frames) if isinstance(image.pixels, Deep) else None) for image in opened]


def reduced(width: int, height: int, max_side: int | None, max_pixels: int) -> tuple[int, int]:
    """The size at which a raster is read: whole pixels of it are put together where its longer side is at least twice
    ``max_side``, or it has more than ``max_pixels``."""
    if max_side is None:
        if width * height <= max_pixels:
            return width, height
        max_side = MAX_SIDE
    factor = max(1, max(width, height) // max_side)
    return max(1, width // factor), max(1, height // factor)


@dataclass
class _Opened:
    """An image before its stretch, with its EXIF orientation and its ``info``."""

    pixels: Image.Image | Deep
    orientation: int = 1
    place: Place | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def num_pixels(self) -> int:
        """Pixels that are held in memory."""
        if isinstance(self.pixels, Deep):
            return int(self.pixels.values.shape[0] * self.pixels.values.shape[1])
        return self.pixels.width * self.pixels.height

    def shown(self, frame: tuple[Image.Image, tuple[float, float]] | None) -> Image.Image:
        """frame: its grey levels and their range, where it was deep."""
        if frame is not None:
            image, self.info["range"] = frame
        else:
            assert isinstance(self.pixels, Image.Image)
            image = self.pixels
        if self.orientation != 1:
            image.getexif()[ExifTags.Base.Orientation] = self.orientation
            image = ImageOps.exif_transpose(image)
        image.info.update(self.info)
        return image


def _check_places(opened: Sequence[_Opened]) -> None:
    """Warn if a georeferenced date does not overlap the first one."""
    places = [image.place for image in opened if image.place is not None]
    for place in places[1:]:
        if apart(places[0], place):
            note = f"does not overlap {place.name} on the map; check that both show the same place"
            once(log, note, places[0].name, logging.WARNING)


def _open(source: ImageLike, reading: Reading, max_side: int | None, max_pixels: int) -> _Opened:
    check_type(source, "source")
    if is_array(source):
        source = image_of_array(source)
    if isinstance(source, Image.Image):
        return _decoded(source, "in memory", None, max_pixels)
    path = existing_file(source, "image")
    try:
        driver = raster_driver(path)
    except PermissionError as error:
        raise BTCChatError(f"image '{path}' cannot be read: permission denied") from error
    if driver is not None:
        return _read_raster(path, reading, max_side, max_pixels)
    if reading.bands is not None or reading.nodata not in (None, NO_NODATA):
        note = "is read without --bands and --nodata, which are for TIFF, JPEG 2000 and images of 16 bits"
        once(log, note, str(path), logging.WARNING)
    with _opened(path, max_pixels) as image:
        return _decoded(image, str(path), max_side, max_pixels)


def _read_raster(path: Path | Embedded, reading: Reading, max_side: int | None, max_pixels: int) -> _Opened:
    with Raster(path, reading=reading) as raster:
        if not raster.has_windows:
            _check_size(str(path), raster.width, raster.height, max_pixels)
        size = reduced(raster.width, raster.height, max_side, max_pixels)
        if size != (raster.width, raster.height):
            _say_smaller(str(path), (raster.width, raster.height), size)
        pixels = raster.read(size=size)
        info = {"bands": raster.channels.chosen, "full_size": (raster.width, raster.height)}
        whole, place = raster.channels.whole_range, raster.place
    orientation = _orientation(path)
    if raster.channels.deep:
        return _Opened(Deep(pixels.values, pixels.valid, str(path), whole), orientation, place, info)
    rgb = np.where(pixels.valid, pixels.values, np.uint8(0))
    rgb = np.ascontiguousarray(np.broadcast_to(rgb, (*rgb.shape[:2], 3)))
    return _Opened(Image.fromarray(rgb), orientation, place, info)


def _orientation(path: Path | Embedded) -> int:
    """The EXIF orientation, which GDAL ignores: 1 is upright."""
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            head = file.read(8)
            if head[:2] in (b"II", b"MM"):
                head += file.read(8) if 43 in head[2:4] else b""  # BigTIFF
                tags = TiffImagePlugin.ImageFileDirectory_v2(head)
                file.seek(tags.next)
                tags.load(file)
                value = tags.get(ExifTags.Base.Orientation, 1)
            else:
                file.seek(0)
                with Image.open(file, formats=("PNG", "PPM", "JPEG2000")) as image:
                    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (*_FAULTS, Image.DecompressionBombError):  # GDAL has read the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def check_type(source: object, name: str) -> None:
    """Raise TypeError that names ``name`` if `load_image` does not accept ``source``."""
    if not isinstance(source, str | os.PathLike | Embedded | Image.Image) and not is_array(source):
        raise wrong_type(name, source, "a path, a PIL image, a numpy array or a torch tensor")


@contextmanager
def _opened(path: Path | Embedded, max_pixels: int) -> Iterator[Image.Image]:
    """Image.open with one-line errors. Pillow's warnings (its own size limit, odd metadata) are suppressed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            file = path.open() if isinstance(path, Embedded) else path
            image = Image.open(file, formats=FORMATS)
        except Image.DecompressionBombError as error:
            limit = f"the limit is {max_pixels:,} pixels; crop it or make it smaller"
            raise BTCChatError(f"image '{path}' is too large; {limit}") from error
        except PermissionError as error:
            raise BTCChatError(f"image '{path}' cannot be read: permission denied") from error
        except BTCChatError:
            raise
        except _FAULTS as error:
            raise BTCChatError(_unreadable(path)) from error
        with image:
            yield image


def _unreadable(path: Path | Embedded) -> str:
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return f"image '{path}' is a video file; give it as a video"
    return f"'{path}' is not an image that can be read (PNG, JPEG, TIFF, JPEG 2000, WebP, BMP, GIF, AVIF, PPM)"


def _say_smaller(name: str, full: tuple[int, int], size: tuple[int, int]) -> None:
    example = f"{name} ({full[0]} x {full[1]} as {size[0]} x {size[1]})"
    once(log, "images that are large for the model are read smaller", example)


def _decoded(image: Image.Image, name: str, max_side: int | None, max_pixels: int) -> _Opened:
    _check_size(name, image.width, image.height, max_pixels)
    try:
        if getattr(image, "is_animated", False):
            log.info("%s has %d frames; only the first one is read", name, getattr(image, "n_frames", 0))
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            values = np.asarray(image)[..., None]  # (H, W, 1)
            return _Opened(Deep(values, np.isfinite(values), name, whole_range(values.dtype)), _exif(image))
        full = image.size
        factor = 1 if max_side is None else max(1, max(full) // max_side)
        image = _to_rgb(_shrunk(image, factor) if factor > 1 else image)
        if factor > 1:
            _say_smaller(name, full, image.size)
        return _Opened(image, info={"full_size": full} if factor > 1 else {})
    except BTCChatError:
        raise
    except _FAULTS as error:
        size = f"{image.width} x {image.height}"
        raise BTCChatError(f"image '{name}' ({size}) is truncated or damaged: {_line(error)}") from error


def _check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BTCChatError(
            f"image '{name}' has {width} x {height} = {width * height:,} pixels, the limit is {max_pixels:,}; "
            "crop it or make it smaller"
        )


def _exif(image: Image.Image) -> int:
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _shrunk(image: Image.Image, factor: int) -> Image.Image:
    """Each pixel the mean of ``factor`` x ``factor``; strip by strip, to avoid copies of a whole large image."""
    rows = factor * 64
    strips = [
        _plain(image.crop((0, top, image.width, min(image.height, top + rows)))).reduce(factor)
        for top in range(0, image.height, rows)
    ]
    whole = Image.new(strips[0].mode, (strips[0].width, sum(strip.height for strip in strips)))
    for number, strip in enumerate(strips):
        whole.paste(strip, (0, number * 64))
    whole.info = dict(image.info)  # the EXIF orientation
    whole.info.pop("transparency", None)  # a colour of the full image
    return whole


def _plain(image: Image.Image) -> Image.Image:
    """In a mode whose values can be averaged."""
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _to_rgb(image: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode == "La":  # premultiplied grey; Pillow's only conversion from it
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
