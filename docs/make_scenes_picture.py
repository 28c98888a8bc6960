"""Draw docs/scenes.jpg: the report of a run over a drawn place, with a tile picked. Needs Chromium.

python docs/make_scenes_picture.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

from btcchat.synthetic import make_pair

SIDE, GSD = 3, 0.5  # scenes a side of the place; metres of a pixel
CORNER = 350_000.0, 4_740_000.0
PICKED = 4


def place(date: int) -> np.ndarray:
    """uint8 (768, 768, 3): nine drawn scenes at a date."""
    images = [make_pair(seed).images[date] for seed in range(SIDE * SIDE)]
    rows = [np.concatenate(images[start : start + SIDE], axis=1) for start in range(0, len(images), SIDE)]
    return np.concatenate(rows)


def write(path: Path, pixels: np.ndarray) -> Path:
    height, width, count = pixels.shape
    transform = rasterio.Affine(GSD, 0, CORNER[0], 0, -GSD, CORNER[1])
    profile = {"driver": "GTiff", "width": width, "height": height, "count": count, "dtype": "uint8"}
    with rasterio.open(path, "w", crs="EPSG:32633", transform=transform, **profile) as file:
        file.write(pixels.transpose(2, 0, 1))
    return path


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenes = [write(folder / f"place_{year}.tif", place(date)) for date, year in enumerate((2019, 2021))]
        command = [sys.executable, "-m", "btcchat", "scenes", *scenes, "--out", folder / "run", "--overlap", "0"]
        subprocess.run(list(map(str, command)), check=True)
        picture = folder / "page.png"
        page = f"file://{folder / 'run' / 'report.html'}#tile={PICKED}"
        flags = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=900,1450", f"--screenshot={picture}"]
        subprocess.run(["chromium", *flags, page], check=True, capture_output=True)
        Image.open(picture).convert("RGB").save(Path(__file__).with_name("scenes.jpg"), quality=82)


if __name__ == "__main__":
    main()
