"""Synthetic satellite values, for tests of how they are read."""

from pathlib import Path

import numpy as np
import rasterio

SCENES = {  # kind -> (dtype, range of the values, value of clouds, of shadows, of fill)
    "reflectance": (np.uint16, (300, 3100), 9000, 60, 0),
    "offset": (np.uint16, (1200, 4000), 12000, 1010, 65535),
    "float": (np.float32, (0.05, 0.45), 1.2, 0.01, -9999),
    "counts": (np.int16, (200, 700), 8000, 30, -32768),
    "urban": (np.uint16, (300, 3100), 9000, 60, 0),  # a few roofs are much brighter than the rest
}


def scene(kind: str, seed: int = 0, side: int = 96) -> np.ndarray:
    """(side, side, 3): smooth ground with noise, within the range of its kind."""
    random = np.random.default_rng(seed)
    dtype, (low, high), *_ = SCENES[kind]
    y, x = np.mgrid[:side, :side] / side
    ground = 0.5 + 0.3 * np.sin(6 * x + seed) * np.cos(5 * y) + 0.06 * random.standard_normal((side, side))
    values = np.clip(ground[..., None] * [1, 0.85, 0.7] + 0.05 * random.standard_normal((side, side, 3)), 0, 1)
    if kind == "urban":
        values[random.random((side, side)) < 0.03] *= 1.8
    return (low + (high - low) * values).astype(dtype)


def cover(values: np.ndarray, kind: str, what: str, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Put a cloud, a shadow or a fill over ``share`` of a scene; -> the new values, and a mask of it."""
    value = SCENES[kind][2 + ("cloud", "shadow", "fill").index(what)]
    place = np.zeros(values.shape[:2], bool)
    side = round((share * place.size) ** 0.5)
    place[-side:, :side] = True
    covered = values.copy()
    covered[place] = value
    if what == "cloud":
        covered[place] = covered[place] * (1 + 0.1 * np.random.default_rng(0).random((place.sum(), 1)))
    return covered, place


def write(path: Path, values: np.ndarray, *, mask: np.ndarray | None = None, **profile) -> Path:
    """Write values (H, W, B) as a GeoTIFF. profile: of rasterio.open, and descriptions, colours, scales, offsets."""
    facts = {name: profile.pop(name, None) for name in ("descriptions", "colorinterp", "scales", "offsets")}
    height, width, count = values.shape
    profile = {"driver": "GTiff", "crs": "EPSG:32618", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4e6)} | profile
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(path, "w", width=width, height=height, count=count, dtype=values.dtype, **profile) as file:
            file.write(values.transpose(2, 0, 1))
            for name, value in facts.items():
                if value is not None:
                    setattr(file, name, value)
            if mask is not None:
                file.write_mask(mask)
    return path
