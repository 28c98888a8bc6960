"""Draw georeferenced scenes, and run the command on them."""

import select
from pathlib import Path
from subprocess import Popen

import numpy as np
import rasterio
from PIL import Image

from btcchat import cli
from btcchat.geo.engines.local import run_local
from btcchat.geo.facts import ModelFacts
from btcchat.geo.inputs import find_files
from btcchat.geo.plan import Plan
from btcchat.geo.scene_run import SceneRun
from btcchat.geo.settings import Settings
from btcchat.synthetic import make_pair
from tests.geo.stub import StubModel

UTM = "EPSG:32633"
CORNER = 350_000.0, 4_740_000.0  # near Norcia


def picture(side: int = 384, seed: int = 0) -> np.ndarray:
    """uint8 (side, side, 3): ground whose texture does not repeat."""
    random = np.random.default_rng(seed)
    coarse = random.random((side // 8 + 2, side // 8 + 2, 3))
    levels = np.stack(
        [
            np.asarray(
                Image.fromarray((coarse[..., band] * 255).astype(np.uint8)).resize(
                    (side, side), Image.Resampling.BICUBIC
                )
            )
            for band in range(3)
        ],
        axis=2,
    )
    return np.clip(levels * 0.7 + 30 + random.normal(0, 4, levels.shape), 1, 254).astype(np.uint8)


def drawn_pair(tiles: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Before, after (256 n, 256 n, 3) and what changed (256 n, 256 n), of n x n synthetic scenes."""
    samples = [make_pair(seed) for seed in range(tiles * tiles)]
    rows = [samples[start : start + tiles] for start in range(0, len(samples), tiles)]

    def joined(part):
        return np.concatenate([np.concatenate([part(sample) for sample in row], axis=1) for row in rows], axis=0)

    return joined(lambda s: s.images[0]), joined(lambda s: s.images[1]), joined(lambda s: s.mask)


def write(path: Path, pixels: np.ndarray, *, gsd: float = 0.5, corner=CORNER, tags=None, **profile) -> Path:
    """A GeoTIFF of (H, W, B) or (H, W)."""
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    transform = profile.pop("transform", rasterio.Affine(gsd, 0, corner[0], 0, -gsd, corner[1]))
    facts = {"driver": "GTiff", "crs": UTM, "tiled": True, "blockxsize": 128, "blockysize": 128} | profile
    height, width, count = pixels.shape
    with rasterio.open(
        path, "w", width=width, height=height, count=count, dtype=pixels.dtype, transform=transform, **facts
    ) as file:
        file.write(pixels.transpose(2, 0, 1))
        file.update_tags(**(tags or {}))
    return path


def write_mask(path: Path, valid: np.ndarray) -> None:
    """Add a mask, bool (H, W), to a GeoTIFF, such as one of clouds."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(valid)


def first_line(process: Popen, seconds: float = 60) -> str:
    """The first line that a process prints, without its end; waits at most ``seconds``."""
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    assert ready, f"{process.args} printed nothing in {seconds} s"
    return process.stdout.readline().strip()


def run_command(*words) -> int:
    """Run ``btcchat scenes`` with these arguments in this process; return its exit code."""
    return cli.main(["scenes", *map(str, words)])


FACTS = ModelFacts("stub", "0", threshold=0.2, chosen_on="nothing", gsd=0.5)


def run_scenes(sources, out: Path, *, model=None, facts=FACTS, dates=(), aoi=None, resume=False, **settings):
    """Do a run with the stub model; return the record in run.json and the new rows."""
    model = StubModel() if model is None else model
    files = [find_files(source) for source in sources]
    with Plan(files, Settings(**{"tile": 128, **settings}), dates=dates, aoi=aoi) as plan:
        with SceneRun(plan, out, facts, resume=resume) as run:
            rows = list(run.rows(lambda batches: run_local(batches, plan.reader(), run.work(model))))
            return run.finish(), rows
