"""Draw docs/scenes.jpg: the report of a run over a drawn place, with a tile picked. Needs Chromium. With --qgis also
docs/scenes_qgis.jpg: its layers as QGIS draws them. Needs QGIS for the system's Python (Debian: python3-qgis).

python docs/make_scenes_picture.py [--qgis]
"""

import os
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
QGIS = """
import os, sys
from qgis.core import QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QSize
scene, run, picture = sys.argv[1:]
app = QgsApplication([], False)
app.initQgis()
layers = [QgsVectorLayer(f"{run}/{name}.gpkg", name, "ogr") for name in ("changes", "tiles")]
assert all(layer.isValid() and layer.loadDefaultStyle()[1] for layer in layers)
layers.append(QgsRasterLayer(scene, "after"))
settings = QgsMapSettings()
settings.setLayers(layers)
settings.setDestinationCrs(layers[-1].crs())
settings.setExtent(layers[-1].extent())
settings.setOutputSize(QSize(720, 720))
job = QgsMapRendererParallelJob(settings)
job.start()
job.waitForFinished()
assert job.renderedImage().save(picture)
os._exit(0)  # QGIS may crash when Python takes its objects down
"""


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
        if "--qgis" in sys.argv:
            arguments = [str(scenes[1]), str(folder / "run"), str(picture)]
            environment = {"PATH": os.environ["PATH"], "QT_QPA_PLATFORM": "offscreen"}
            subprocess.run(["/usr/bin/python3", "-c", QGIS, *arguments], check=True, env=environment)
            Image.open(picture).convert("RGB").save(Path(__file__).with_name("scenes_qgis.jpg"), quality=82)


if __name__ == "__main__":
    main()
