"""TIFF as Pillow reads it: what it would misread is an error here, and three unmarked bands are read as RGB.

GDAL marks bands as red, green, blue only for 8-bit files, so a 16-bit composite from `gdal_translate` is unmarked.
"""

import logging
import struct
from pathlib import Path
from typing import IO

from PIL import Image, TiffImagePlugin
from PIL.TiffTags import TAGS_V2

from btcchat.errors import BTCChatError
from btcchat.media.source import Embedded

log = logging.getLogger(__name__)

_TAG = {info.name: number for number, info in TAGS_V2.items()}
BITS, PHOTOMETRIC, BANDS, PLANAR, EXTRA = (
    _TAG[name]
    for name in ("BitsPerSample", "PhotometricInterpretation", "SamplesPerPixel", "PlanarConfiguration", "ExtraSamples")
)
GDAL_NODATA = 42113
COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}  # PhotometricInterpretation (RGB, CMYK, YCbCr, Lab) -> bands that make a colour
WAY_OUT = "choose three with `gdal_translate -b 3 -b 2 -b 1 -ot Byte -scale -co INTERLEAVE=PIXEL in.tif out.tif`"


class _Tiff(TiffImagePlugin.TiffImageFile):
    """A TIFF of one, or of three bands whether marked as colours or not."""

    def _setup(self) -> None:
        if self.tag_v2.get(PHOTOMETRIC) == 1 and self.tag_v2.get(BANDS) == 3:
            log.info("%s: its three bands are not marked; taken as red, green, blue", self.filename)
            self.tag_v2[PHOTOMETRIC] = 2
            self.tag_v2[EXTRA] = ()
        super()._setup()


def open_tiff(path: Path | Embedded, file: Path | IO[bytes]) -> Image.Image:
    """Open without reading the pixels; BTCChatError that says what the file holds where Pillow knows no way.

    file: what ``path`` holds, where that is no path.
    """
    try:
        return _Tiff(file, str(path))
    except PermissionError:
        raise
    except (SyntaxError, TypeError, ValueError, LookupError, OSError, ArithmeticError, struct.error) as error:
        kind = f"damaged, or a TIFF of a kind that is not read ({_contents(path)})"
        raise BTCChatError(f"image '{path}' is {kind}; {WAY_OUT}") from error


def check(image: TiffImagePlugin.TiffImageFile, name: str) -> None:
    """Raise where Pillow would take one band for the whole picture or mix up bytes; log what it leaves out."""
    tags = image.tag_v2
    bands, extra = tags.get(BANDS, 1), tags.get(EXTRA, ())
    colours = COLOURS.get(tags.get(PHOTOMETRIC, 1), 1)
    alpha = 1 if extra and extra[0] in (1, 2) else 0
    if tags.get(PLANAR, 1) == 2 and max(tags.get(BITS, (8,))) > 8 and (bands > 1 or image.tile[0].codec_name == "raw"):
        raise BTCChatError(f"image '{name}' is a TIFF with bands of more than 8 bits one after the other; {WAY_OUT}")
    if colours == 1 and bands > 1 + alpha:
        raise BTCChatError(f"image '{name}' is a TIFF with {bands} bands, not marked as red, green, blue; {WAY_OUT}")
    if bands > colours + alpha:
        log.info("%s has %d bands; the first %d are read", name, bands, colours)


def nodata(image: Image.Image) -> float | None:
    """The value GDAL marks as no data, if the image is a TIFF that has one."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or GDAL_NODATA not in image.tag_v2:
        return None
    try:
        return float(str(image.tag_v2[GDAL_NODATA]).strip("\0 "))
    except ValueError:
        return None  # a text that is no number marks nothing


def _contents(path: Path | Embedded) -> str:
    """What the file says of its bands, for an error."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
            head += file.read(8) if 43 in head[2:4] else b""  # BigTIFF
            tags = TiffImagePlugin.ImageFileDirectory_v2(head)
            file.seek(tags.next)
            tags.load(file)
        kind = {1: "unsigned", 2: "signed", 3: "floating-point"}.get(tags.get(339, (1,))[0], "unusual")
        bands, bits = tags.get(BANDS, 1), max(tags.get(BITS, (1,)))
        return f"{bands} {kind} band{'s' * (bands != 1)} of {bits} bit{'s' * (bits != 1)}"
    except (SyntaxError, TypeError, ValueError, LookupError, OSError, ArithmeticError, struct.error):
        return "its tags cannot be read"
