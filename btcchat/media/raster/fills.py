"""Recognise values that mean "no data" without a tag, and alpha bands that are not masks."""

import numpy as np

CUSTOMARY = (-9999.0, -99999.0, -32768.0, -3.4e38, 3.4e38)  # besides the ends of the data type
DISTINCT = 16  # with fewer distinct values they are classes, none of which is a fill
LEAST_ZEROS = 0.001  # a share: a few zeros may be measured
GAP_TO_ZERO = 0.1  # of the range of the other values


def fill_values(pixels: np.ndarray) -> list[float]:
    """pixels: (N, B) as they are stored -> those values that are far from all others in all bands of some pixels.

    Asked of -9999 and the like, of the ends of the data type, and of 0, which must also be frequent.
    """
    found: list[float] = []
    for value in (*_ends(pixels.dtype), *CUSTOMARY, 0.0):
        filled = (pixels == value).all(axis=1)
        if not filled.any() or (value == 0 and filled.mean() < LEAST_ZEROS):
            continue
        others = pixels[~filled].astype(np.float64).ravel()
        others = others[np.isfinite(others) & ~np.isin(others, found)]
        if value and len(others):
            others = others[~np.isin(others, _sentinels(pixels.dtype))]  # one band of a pixel may be filled
        if len(np.unique(others)) < DISTINCT:
            continue
        lowest, low, high, highest = np.percentile(others, (0.1, 2, 98, 99.9))
        gap = max(lowest - value, value - highest)
        if gap > (high - low) * (GAP_TO_ZERO if value == 0 else 1):
            found.append(value)
            pixels = pixels[~filled]
    return found


def is_mask(alpha: np.ndarray) -> bool:
    """Whether an alpha band is a mask, nearly all 0 or its highest value. GDAL marks any fourth byte band as alpha."""
    return bool(np.isin(alpha, (0, alpha.max(initial=0))).mean() >= 0.9)


def _ends(dtype: np.dtype) -> tuple[float, ...]:
    """The smallest and the largest value; 0 is asked about last."""
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    # In float64 too, a file's nodata may be the end of float32.
    more = (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)) if dtype.kind == "f" else ()
    return tuple(value for value in dict.fromkeys((float(limits.min), float(limits.max), *more)) if value)


def _sentinels(dtype: np.dtype) -> tuple[float, ...]:
    return (*_ends(dtype), *CUSTOMARY)
