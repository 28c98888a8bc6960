"""Convert more than 8 bits per band to 8 bits: satellite products hold reflectances or counts, not grey levels.

The frames of a sample share one range, over all their bands, so that unchanged areas look the same and colours keep
their ratios. The range is that of the date with the fewest extremes, so that clouds, shadows and the like in one date
do not set it; see `shared_range`. 8-bit images are never stretched.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from btcchat.errors import BTCChatError
from btcchat.media.notes import once
from btcchat.media.reading import Stretch

log = logging.getLogger(__name__)

SAMPLE = 1_000_000  # values used for the percentiles: all of a Sentinel-2 tile would take seconds
LOW, MEDIAN, HIGH = 0.02, 0.5, 0.98  # quantiles of a date
# Quantiles of all dates together that the range must contain: a tenth of one of two dates is 5 % of both.
POOLED_LOW, POOLED_HIGH = 0.07, 0.93
GRID = np.linspace(0, 1, 1001)
ROWS = 2**22  # values stretched at a time
MID_GREY = 127


@dataclass
class Deep:
    """An image before its stretch: values, valid (H, W, 1 or 3). whole: the range shown without a stretch."""

    values: np.ndarray
    valid: np.ndarray
    name: str
    whole: tuple[float, float]


def whole_range(dtype: np.dtype, bits: int | None = None) -> tuple[float, float]:
    """The values that are black and white without a stretch: of integers all of the type, of floating point 0 to 1."""
    if dtype.kind == "f":
        return 0.0, 1.0
    if dtype.kind == "u" and bits is not None:
        return 0.0, float(2**bits - 1)
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)


def stretched(images: Sequence[Deep], stretch: Stretch) -> list[tuple[Image.Image, tuple[float, float]]]:
    """Return the frames as RGB, no data in black, each with the values that became 0 and 255; these are logged.

    Raises BTCChatError for an image without a valid pixel.
    """
    ranges = value_ranges(images, stretch)
    for image, (low, high) in zip(images, ranges, strict=True):
        log.info(
            "%s: %s values %.6g..%.6g shown as 0..255 (stretch %s)",
            image.name,
            image.values.dtype,
            low,
            high,
            _name(stretch),
        )
    return [(grey_levels(image, limits), limits) for image, limits in zip(images, ranges, strict=True)]


def value_ranges(images: Sequence[Deep], stretch: Stretch) -> list[tuple[float, float]]:
    """For each image the values that become black and white. Raises BTCChatError for one without a valid pixel."""
    for image in images:
        if not image.valid.any():
            raise BTCChatError(
                f"image '{image.name}' has no valid pixel: all are no data or not a number; if that is wrong, set the "
                "no-data value (--nodata)"
            )
    if isinstance(stretch, tuple):
        return [stretch] * len(images)
    if stretch == "none":
        return [image.whole for image in images]
    if stretch == "per-date":
        return [shared_range([quantiles(image)]) for image in images]
    if not images:
        return []
    dates = [quantiles(image) for image in images]
    ranges = [shared_range(dates)] * len(images)
    _warn_of_other_units(images, dates, ranges)
    return ranges


def quantiles(image: Deep) -> np.ndarray:
    """(1001,) of the valid values: all dates count alike, whatever their size."""
    every = max(1, image.values.size // SAMPLE)
    values = image.values.reshape(-1, image.values.shape[2])[::every]
    valid = image.valid.reshape(-1, image.valid.shape[2])[::every]
    if not valid.any():
        values, valid = image.values, image.valid
    found: np.ndarray = np.quantile(values[valid].astype(np.float64), GRID)
    return found


def shared_range(dates: Sequence[np.ndarray]) -> tuple[float, float]:
    """The values that become black and white, of the `quantiles` of all dates.

    It ends at the 98th percentile of the date where that is lowest, but holds the 93rd of all dates together, as
    another date may be brighter in all its parts; likewise at the dark end. Where both ends coincide, as in a raster
    that is nearly one value, it is the smallest to the largest value.
    """
    everything = np.concatenate(dates)
    low, high = (int(round(quantile * (len(GRID) - 1))) for quantile in (LOW, HIGH))
    pooled_low, pooled_high = np.quantile(everything, (POOLED_LOW, POOLED_HIGH))
    bottom = min(pooled_low, max(date[low] for date in dates))
    top = max(pooled_high, min(date[high] for date in dates))
    if top <= bottom:
        bottom, top = everything.min(), everything.max()
    return float(bottom), float(top)


def grey_levels(image: Deep, limits: tuple[float, float]) -> Image.Image:
    """The image as RGB: ``limits`` become black and white, and no data becomes black."""
    low, high = limits
    height, width, bands = image.values.shape
    pixels = np.zeros((height, width, 3), np.uint8)
    step = max(1, ROWS // (width * bands))
    for top in range(0, height, step):
        part, valid = image.values[top : top + step], image.valid[top : top + step]
        if high <= low:  # a single value everywhere becomes mid-grey
            pixels[top : top + step] = np.where(valid, MID_GREY, 0)
            continue
        wide = np.result_type(part.dtype, np.float32).type  # 32-bit integers need float64
        with np.errstate(over="ignore", invalid="ignore"):  # values near the end of floating point are clipped too
            levels = (np.where(valid, part, 0).astype(wide) - wide(low)) * wide(255 / (high - low)) + wide(0.5)
            pixels[top : top + step] = np.where(valid, np.clip(levels, 0, 255), 0)
    return Image.fromarray(pixels)


def _warn_of_other_units(
    images: Sequence[Deep], dates: Sequence[np.ndarray], ranges: Sequence[tuple[float, float]]
) -> None:
    """Warn if the dates seem to differ in sensor or processing: in a shared range, one is all dark or all bright."""
    clear = []
    for date, (low, high) in zip(dates, ranges, strict=True):
        inside = date[(low <= date) & (date <= high)]
        clear.append((float(np.median(inside if len(inside) else date)), *date[[20, 980]]))
    darkest, brightest = min(clear), max(clear)
    if darkest[0] > 0:
        differ = brightest[0] > 2 * darkest[0]
    else:  # a ratio is meaningless for values around or below 0, such as decibels
        differ = bool(darkest[2] < brightest[1])
    if differ:
        names = " and ".join(images[clear.index(date)].name for date in (darkest, brightest))
        medians = f"medians of {darkest[0]:.6g} and {brightest[0]:.6g}"
        note = f"{medians}; if the sensor or the processing differs, give --stretch per-date"
        once(log, note, names, logging.WARNING)


def _name(stretch: Stretch) -> str:
    return stretch if isinstance(stretch, str) else "given"
