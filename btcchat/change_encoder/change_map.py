"""Change maps: the change encoder's distance between two dates, resized to the image, drawn and written."""

from pathlib import Path

import numpy as np
import torch.nn.functional as F
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from btcchat.errors import BTCChatError
from btcchat.files import atomic_write
from btcchat.media import load_image
from btcchat.media.raster import Raster, raster_driver
from btcchat.media.source import FileLike, existing_file
from btcchat.outputs.ours import NAME

LEVEL = 1 / 255  # a grey level


def at_size(distance: Tensor, width: int, height: int, *, padded: bool) -> np.ndarray:
    """Distances of patches ``(g, g)`` -> float32 ``(height, width)`` in 0..1, one per pixel, interpolated.

    padded: the grid covers the square that the image was padded to (image_aspect_ratio "pad").
    """
    across, down = (max(width, height),) * 2 if padded else (width, height)
    field = F.interpolate(distance.float()[None, None], size=(down, across), mode="bilinear", align_corners=False)
    top, left = (down - height) // 2, (across - width) // 2
    return field[0, 0, top : top + height, left : left + width].clamp(0, 1).cpu().numpy()


def strength(change: np.ndarray, least: float) -> np.ndarray:
    """0 to 1 over a map's own range, but over no less than ``least``: two equal images differ by rounding errors."""
    low, high = float(change.min()), float(change.max())
    scaled: np.ndarray = (change - low) / max(high - low, least)
    return scaled


def overlay(change: np.ndarray, image: Image.Image) -> Image.Image:
    """Draw a map (H, W) in 0..1 over ``image``: the stronger the change, the redder. Returns an RGB image.

    The colours span the map's own range, so that even a faint change is visible.
    """
    alpha = (0.75 * strength(change, LEVEL))[..., None]  # (H, W, 1)
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    red = np.array([255.0, 32.0, 32.0], dtype=np.float32)
    return Image.fromarray((pixels * (1 - alpha) + red * alpha).round().astype(np.uint8))


def save_overlay(change: np.ndarray, after: Image.Image | str | Path, path: Path) -> None:
    """Atomically write :func:`overlay` of a map and the image to which it belongs as a PNG file."""
    _save(overlay(change, load_image(after)), path)


def grey(change: np.ndarray) -> Image.Image:
    """A map (H, W) in 0..1 as an 8-bit grey image, 255 the most changed."""
    return Image.fromarray((change * 255).round().astype(np.uint8))


def save_map(change: np.ndarray, path: Path) -> None:
    """Atomically write a map (H, W) in 0..1 as an 8-bit grey PNG file, 255 the most changed."""
    _save(grey(change), path)


def _save(image: Image.Image, path: Path) -> None:
    about = PngInfo()
    about.add_text("Software", NAME)  # outputs.ours.PNG
    with atomic_write(path) as part:
        image.save(part, format="PNG", pnginfo=about)


def geotiff(change: np.ndarray, after: FileLike) -> bytes:
    """A map (H, W) in 0..1 as the bytes of a float32 GeoTIFF file, georeferenced like the raster ``after``.

    Raises BTCChatError if ``after`` is not a raster, or has no coordinate reference system.
    """
    from rasterio.io import MemoryFile

    file = existing_file(after, "image")
    nowhere = f"image '{file}' has no coordinate reference system; request a PNG"
    if raster_driver(file) is None:
        raise BTCChatError(nowhere)
    with Raster(file) as raster:
        if raster.crs is None:
            raise BTCChatError(nowhere)
        height, width = change.shape
        a, b, left, d, e, top = raster.transform[:6]
        across, down = raster.width / width, raster.height / height
        transform = type(raster.transform)(a * across, b * down, left, d * across, e * down, top)
        profile = {"width": width, "height": height, "count": 1, "dtype": "float32", "crs": raster.crs}
    with MemoryFile() as written:
        with written.open(driver="GTiff", transform=transform, compress="deflate", predictor=3, **profile) as target:
            target.write(change.astype(np.float32), 1)
            target.set_band_description(1, "change")
        return bytes(written.read())
