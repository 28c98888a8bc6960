"""Peak memory and time of `load_image` on a large tiled GeoTIFF, with and without overviews.

    python benchmarks/inputs.py

The scene is generated: three uint16 bands in tiles, most of which are sparse (they take no space on disk, but are
decoded like the others). Each scene is read in a process of its own; a small scene is read for comparison. Linux only.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import Resampling

from btcchat.eval.encoders.markdown import table

TILE, EVERY = 512, 8  # pixels a side; every 8th tile of a row and of a column has values
READ = """
import json, re, sys, time
from btcchat.media import load_image
start = time.perf_counter()
image = load_image(sys.argv[1])
seconds = time.perf_counter() - start
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]
print(json.dumps([image.size, seconds, int(peak) / 1024]))
"""


def write(path: Path, side: int, overviews: bool) -> None:
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 3, "width": side, "height": side, "tiled": True}
    profile |= {"blockxsize": TILE, "blockysize": TILE, "compress": "deflate", "SPARSE_OK": True, "BIGTIFF": "YES"}
    values = np.random.default_rng(0).integers(200, 3000, (3, TILE, TILE), dtype=np.uint16)
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    with rasterio.Env(SPARSE_OK_OVERVIEW=True), rasterio.open(path, "w", **profile) as scene:
        for top in range(0, side, EVERY * TILE):
            for left in range(0, side, EVERY * TILE):
                height, width = min(TILE, side - top), min(TILE, side - left)
                window = rasterio.windows.Window(left, top, width, height)
                scene.write(values[:, :height, :width], window=window)
        if overviews:
            scene.build_overviews([2, 4, 8, 16], Resampling.average)


def read(path: Path) -> tuple[list[int], float, float]:
    """Size of the image, seconds, and peak memory of the process in MiB."""
    done = subprocess.run([sys.executable, "-c", READ, str(path)], check=True, stdout=subprocess.PIPE, text=True)
    size, seconds, peak = json.loads(done.stdout)
    return size, seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=30_000, help="pixels a side of the scene (default 30000)")
    side = parser.parse_args().side
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.tif"
        for pixels, overviews in ((TILE, False), (side, False), (side, True)):
            write(path, pixels, overviews)
            size, seconds, peak = read(path)
            scene = f"{pixels} x {pixels}{', overviews' if overviews else ''}"
            rows.append((scene, f"{size[0]} x {size[1]}", f"{peak:.0f}", f"{seconds:.1f}"))
            path.unlink()
    print(table(["scene", "read as", "peak memory of the process, MiB", "seconds"], rows))
    print(f"\nPython {platform.python_version()}, {os.cpu_count()} CPU cores, GDAL {rasterio.__gdal_version__}")


if __name__ == "__main__":
    main()
