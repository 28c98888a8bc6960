"""Noise and canopy textures, made once a process from fixed seeds; a site cuts its own pieces out of them."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

BANK = 1024


@lru_cache(maxsize=1)
def cloud_bank() -> np.ndarray:
    """Fractal noise float32 (BANK, BANK), zero mean, unit deviation."""
    rng = np.random.default_rng(11)
    total = np.zeros((BANK, BANK), np.float32)
    for cells, weight in ((10, 1.0), (24, 0.8), (64, 0.55), (160, 0.4), (400, 0.3)):
        coarse = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
        total += weight * np.asarray(coarse.resize((BANK, BANK), Image.Resampling.BICUBIC))
    bank: np.ndarray = (total - total.mean()) / total.std()
    return bank


@lru_cache(maxsize=1)
def grain_bank() -> np.ndarray:
    """White noise float32 (BANK, BANK), unit deviation."""
    return np.random.default_rng(12).standard_normal((BANK, BANK)).astype(np.float32)


@lru_cache(maxsize=1)
def canopy_bank() -> np.ndarray:
    """Tree crowns from above, brightness uint8 (BANK, BANK): light crowns over dark gaps."""
    rng = np.random.default_rng(13)
    image = Image.new("L", (BANK, BANK), 58)
    draw = ImageDraw.Draw(image)
    spots = rng.uniform(0, BANK, (4200, 2))
    for (x, y), size, light in zip(spots, rng.uniform(6, 13, 4200), rng.uniform(0.72, 1.2, 4200), strict=True):
        for shift, scale, value in ((1.8, 1.02, 50), (0.0, 0.92, 104), (-1.6, 0.62, 140), (-2.6, 0.3, 168)):
            r = size * scale
            shade = int(min(255, value * light)) if value > 60 else value
            draw.ellipse((x - r + shift, y - r + shift, x + r + shift, y + r + shift), fill=shade)
    return np.asarray(image)


def cut(bank: np.ndarray, style: np.ndarray, height: int, width: int) -> np.ndarray:
    """A (height, width) piece of a bank, its place and turn chosen by the numbers ``style`` (>= 3) in [0, 1)."""
    top, left = int(style[0] * (BANK - height)), int(style[1] * (BANK - width))
    piece = bank[top : top + height, left : left + width]
    turn = int(style[2] * 4)
    return piece[:: 1 - 2 * (turn & 1), :: 1 - (turn & 2)]
