"""More than 8 bits a band -> 8 bits: satellite products hold reflectances or counts, not display values.

One stretch for all: the 2nd to 98th percentile of the valid values, over all bands together so that colours keep
their ratios, becomes 0..255. 8-bit images are never stretched.
"""

import logging
import sys
from typing import TypeGuard

import numpy as np
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from btcchat.errors import BTCChatError
from btcchat.media import tiff

log = logging.getLogger(__name__)

PERCENTILES = (2, 98)
SAMPLE = 1_000_000  # values the percentiles are taken from: a full Sentinel-2 tile would need seconds

# Pillow keeps the high byte of a 16-bit colour, so that reflectances of 0..4000 come out as 0..15, almost black.
# Read again with the other byte order it keeps the low byte instead; N is the machine's own order.
_SWAPPED = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}


def is_deep(image: Image.Image) -> bool:
    """Whether an opened, not yet loaded image has more than 8 bits a band."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16") or _deep_colour(image)


def deep_to_rgb(image: Image.Image, name: str) -> Image.Image:
    """A deep image -> 8-bit RGB; one of several bands must be opened from a path and not yet loaded."""
    alpha = None
    nodata = tiff.nodata(image)  # before loading: older Pillow drops the tags
    if _deep_colour(image):
        values, alpha = _read_16_bit_colour(image, name)
    else:
        values = np.asarray(image)[..., None]  # (H, W, 1)
    valid = np.isfinite(values).all(axis=2)
    if nodata is not None:
        valid &= (values != nodata).any(axis=2)
    if alpha is not None:
        valid &= alpha > 0
    pixels = stretch(values, valid, name)  # (H, W, 1 or 3)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))))


def stretch(values: np.ndarray, valid: np.ndarray, name: str) -> np.ndarray:
    """(H, W, bands) of any number type -> uint8. Pixels outside ``valid`` (H, W) are black; logs the range used."""
    chosen = values[valid]
    if not chosen.size:
        raise BTCChatError(f"image '{name}' has no valid pixel: all are no-data or not a number")
    chosen = chosen.reshape(-1)[:: max(1, chosen.size // SAMPLE)]
    low, high = (float(x) for x in np.percentile(chosen.astype(np.float64), PERCENTILES))
    log.info("%s: %s values %.6g..%.6g (percentiles 2 and 98) shown as 0..255", name, values.dtype, low, high)
    if high <= low:  # one value nearly everywhere: neither dark nor bright
        pixels: np.ndarray = np.where(valid[..., None], np.uint8(127), np.uint8(0)) * np.ones(values.shape[2], np.uint8)
        return pixels
    scaled = (np.where(valid[..., None], values, low).astype(np.float32) - low) * (255.0 / (high - low))
    pixels = np.clip(scaled + 0.5, 0, 255).astype(np.uint8)
    return pixels


def _deep_colour(image: Image.Image) -> TypeGuard[ImageFile.ImageFile]:
    if not isinstance(image, ImageFile.ImageFile) or not image.tile or not image.filename:
        return False  # in memory, or loaded
    return image.mode in ("RGB", "RGBA") and _bits(image) == 16


def _bits(image: ImageFile.ImageFile) -> int:
    if isinstance(image, TiffImageFile):
        return int(max(image.tag_v2.get(tiff.BITS, (8,))))
    return 16 if ";16" in _rawmode(image.tile[0]) else 8


def _rawmode(tile: ImageFile._Tile) -> str:
    return tile.args if isinstance(tile.args, str) else str((tile.args or ("",))[0])


def _read_16_bit_colour(image: ImageFile.ImageFile, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """-> values (H, W, 3) uint16 and alpha (H, W) uint8 or None."""
    rawmode = _rawmode(image.tile[0])
    layout, _, order = rawmode.partition(";16")
    if layout not in ("RGB", "RGBX", "RGBA") or order not in _SWAPPED:
        raise BTCChatError(f"image '{name}' has 16-bit pixels stored as {rawmode}, which is not read; {tiff.WAY_OUT}")
    swapped = f"{layout};16{_SWAPPED[order]}"
    with type(image)(image.filename) as twin:
        twin.tile = [
            tile._replace(args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped)
            for tile in twin.tile
        ]
        low = np.asarray(twin)  # (H, W, 3 or 4) uint8
    high = np.asarray(image)
    values = high[..., :3].astype(np.uint16) * 256 + low[..., :3]
    return values, high[..., 3] if high.shape[2] == 4 else None
