"""Measure megapixels and tiles per second of ``btcchat scenes``, where its time goes, and its memory as scenes grow.

    python benchmarks/scenes.py                               # 4,096 and 16,384 pixels a side, memory up to 40,000
    python benchmarks/scenes.py --sides 4096 --memory 2000 8000
    python benchmarks/scenes.py --sides 16384 --ray --memory  # also one Ray worker against two, without memory
    python benchmarks/scenes.py --smoke                       # toy sizes, a minute

Scenes are made on the fly as tiled GeoTIFFs with overviews, 3 bands of uint8, 0.5 m; the earlier one is in another UTM
zone, so that each of its windows is warped. One block of drawn ground is repeated all over a scene. A row is printed as
soon as it is measured; progress goes to stderr.

The speed table has the packaged model with --max-new-tokens 32. Its shares are of the whole time: of the thread that
reads (I/O, warp), of the model's thread, which works at the same time, and of writing the files at the end. The Ray
table (first of --sides) times the command with one thread per worker: as a whole, and from the first row in tiles.jsonl
to the last, without starting Ray and the model and without the files that are built at the end. Memory is the highest
resident size, in MiB, of a process with a stub model, from the first tile to the last file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.enums import Resampling
from rasterio.warp import transform

from btcchat.decoding.options import GenerationOptions
from btcchat.eval.encoders.machine import machine, reset_peak
from btcchat.eval.encoders.machine import memory as memory_in_use
from btcchat.geo import warp
from btcchat.geo.engines.local import run_local
from btcchat.geo.facts import ModelFacts, model_facts
from btcchat.geo.inputs import find_files
from btcchat.geo.pair_model import BTCChatPairs
from btcchat.geo.plan import Plan
from btcchat.geo.scene_run import SceneRun
from btcchat.geo.settings import Settings
from btcchat.synthetic import make_pair

GSD, BLOCK = 0.5, 512
CRS, OTHER = "EPSG:32633", "EPSG:32632"
CORNER = 303_000.0, 4_740_000.0  # within a degree of the border of the two zones
GOAL = 1.1  # times the memory of the smallest scene


class Stub:
    """Answers at once."""

    def see(self, dates):
        return dates

    def distances(self, dates, pairs):
        return np.zeros((len(dates), len(pairs), 27, 27), np.float32)

    def answers(self, dates, asked):
        return ["nothing has changed ."] * len(asked)


def make_scene(path: Path, side: int, crs: str, date: int) -> Path:
    """A scene of ``side`` pixels a side, written block by block."""
    sample = [make_pair(seed).images[date] for seed in range(4)]
    ground = np.concatenate([np.concatenate(sample[:2], axis=1), np.concatenate(sample[2:], axis=1)])  # (512, 512, 3)
    (left,), (top,) = transform(CRS, crs, [CORNER[0]], [CORNER[1]])
    place = rasterio.Affine(GSD, 0, left, 0, -GSD, top)
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "crs": crs}
    profile |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate", "zlevel": 1}
    with rasterio.open(path, "w", transform=place, BIGTIFF="IF_SAFER", **profile) as file:
        for _, window in file.block_windows(1):
            file.write(ground[: window.height, : window.width].transpose(2, 0, 1), window=window)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2**k for k in range(1, 8) if side // 2**k >= 256] or [2], Resampling.nearest)
    return path


def make_pair_of(folder: Path, side: int) -> list[Path]:
    dates = ((2019, OTHER), (2021, CRS))
    return [make_scene(folder / f"{side}_{year}.tif", side, crs, date) for date, (year, crs) in enumerate(dates)]


@contextmanager
def clocked(owner: object, name: str, seconds: dict[str, float], what: str):
    """Adds the seconds of each call of ``owner.name`` to ``seconds[what]``."""
    function = getattr(owner, name)

    def timed(*args, **options):
        start = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            seconds[what] = seconds.get(what, 0.0) + time.perf_counter() - start

    setattr(owner, name, timed)
    yield
    setattr(owner, name, function)


def run(paths: list[Path], out: Path, model, facts: ModelFacts) -> tuple[float, int, dict[str, float], int]:
    """Return the seconds of a run, its tiles, the seconds of its parts, and the pixels of its grid."""
    seconds: dict[str, float] = {}
    settings = Settings(threshold=0.23, shift="ignore")
    start = time.perf_counter()
    with (
        clocked(warp._Layer, "read", seconds, "I/O and warp"),
        clocked(warp.Raster, "read", seconds, "I/O"),
        clocked(type(model), "see", seconds, "model"),
        clocked(type(model), "distances", seconds, "model"),
        clocked(type(model), "answers", seconds, "model"),
        clocked(SceneRun, "finish", seconds, "files"),
        Plan([find_files(path) for path in paths], settings) as plan,
        SceneRun(plan, out, facts) as scenes,
    ):
        tiles = sum(1 for _ in scenes.rows(lambda batches: run_local(batches, plan.reader(), scenes.work(model))))
        scenes.finish()
        grid = plan.tiles.grid
        return time.perf_counter() - start, tiles, seconds, grid.width * grid.height


def speed(sides: list[int], folder: Path) -> Iterator[Sequence[str]]:
    from btcchat import BTCChat

    model = BTCChatPairs(BTCChat.from_pretrained(device="cpu"), GenerationOptions(max_new_tokens=32))
    for side in sides:
        paths = make_pair_of(folder, side)
        say(f"{side:,} pixels a side: scenes made, running")
        total, tiles, parts, pixels = run(paths, folder / f"out{side}", model, model_facts(None))
        reading = parts["I/O"] / total, (parts["I/O and warp"] - parts["I/O"]) / total
        shares = [f"{100 * share:.0f} %" for share in (*reading, parts["model"] / total, parts["files"] / total)]
        yield f"{side:,}", f"{total:,.0f}", f"{pixels / 1e6 / total:.2f}", f"{tiles / total:.2f}", *shares
        for path in paths:
            path.unlink()


def memory(sides: list[int], folder: Path) -> Iterator[Sequence[str]]:
    first = None
    for side in sides:
        make_pair_of(folder, side)
        say(f"{side:,} pixels a side: scenes made, measuring memory")
        command = [sys.executable, __file__, "--child", str(folder), str(side)]
        used = json.loads(finished(command).splitlines()[-1])
        first = first or used["MiB"]
        yield f"{side:,}", f"{used['MiB']:,.0f}", f"{used['MiB'] / first:.2f}", f"{used['seconds']:,.0f}"
        for path in folder.glob(f"{side}_*.tif"):
            path.unlink()


def child(folder: Path, side: int) -> None:
    torch.set_num_threads(1)
    facts = ModelFacts("stub", "0", 0.23, "nothing", GSD)
    paths = [folder / f"{side}_2019.tif", folder / f"{side}_2021.tif"]
    cpu = torch.device("cpu")
    reset_peak(cpu)  # a child begins with the peak of the process that started it
    seconds, *_ = run(paths, folder / f"memory{side}", Stub(), facts)
    print(json.dumps({"MiB": memory_in_use(cpu, peak=True), "seconds": seconds}))


def ray_workers(side: int, folder: Path) -> Iterator[Sequence[str]]:
    """The command itself, with one worker and with two, each with one thread."""
    before, after = make_pair_of(folder, side)
    alone: tuple[float, float] | None = None
    for workers in (1, 2):
        say(f"{side:,} pixels a side: running with {workers} Ray worker{'s' * (workers > 1)}")
        command = [sys.executable, "-m", "btcchat", "scenes", before, after, "--out", folder / f"ray{workers}"]
        command += ["--engine", "ray", "--ray-workers", workers, "--shift", "ignore", "--max-new-tokens", 32]
        with ThreadPoolExecutor(1) as pool:
            start, done = time.perf_counter(), threading.Event()
            watched = pool.submit(watch, folder / f"ray{workers}" / "tiles.jsonl", done)
            try:
                finished(command)
            finally:
                done.set()
            total = time.perf_counter() - start
        rate = watched.result()
        alone = alone or (total, rate)
        times = f"{rate / alone[1]:.2f}" if alone[1] else "-"  # a toy scene is one batch
        cells = f"{total:,.0f}", f"{alone[0] / total:.2f}", f"{rate:.2f}", times
        yield str(workers), *cells


def watch(path: Path, done: threading.Event) -> float:
    """Rows a second that a file gets, from the first to the last."""
    seen: list[tuple[float, int]] = []
    while not done.wait(0.1):
        rows = path.read_bytes().count(b"\n") if path.exists() else 0
        if rows != (seen[-1][1] if seen else 0):
            seen.append((time.perf_counter(), rows))
    (first, few), (last, all_rows) = seen[0], seen[-1]
    return (all_rows - few) / max(last - first, 1e-9)


def finished(command: Sequence[object]) -> str:
    """The output of a command that succeeds, with one thread per process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with exit code {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table, each row as soon as it is there, so that a run that is cut off has its rows so far."""
    for row in (head, ["-" * len(cell) for cell in head]):
        print(f"| {' | '.join(row)} |", flush=True)
    for row in rows:
        print(f"| {' | '.join(cell.ljust(len(name)) for cell, name in zip(row, head, strict=True))} |", flush=True)
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = "pixels a side of the scenes for the {} table; none: leave it out"
    parser.add_argument("--sides", type=int, nargs="*", default=[4096, 16384], help=sizes.format("speed"))
    parser.add_argument("--memory", type=int, nargs="*", default=[2000, 8000, 40000], help=sizes.format("memory"))
    parser.add_argument("--ray", action="store_true", help="measure one and two Ray workers on the first of --sides")
    parser.add_argument("--smoke", action="store_true", help="toy sizes")
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "SIDE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(Path(args.child[0]), int(args.child[1]))
    sides, memories = ([512], [600, 1200]) if args.smoke else (args.sides, args.memory)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(machine(torch.device("cpu")), end="\n\n", flush=True)
        if sides:
            head = ["pixels a side", "seconds", "megapixels/s", "tiles/s", "I/O", "warp", "model", "files"]
            show(head, speed(sides, folder))
        if args.ray:
            head = ["Ray workers", "seconds", "times one's speed", "tiles/s, tiles alone", "times one's (goal 1.7)"]
            show(head, ray_workers(sides[0] if sides else 4096, folder))
        if memories:
            head = ["pixels a side", "peak MiB", f"times the first (goal {GOAL})", "seconds"]
            show(head, memory(memories, folder))


if __name__ == "__main__":
    main()
