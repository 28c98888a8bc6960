"""How long the small model takes on this machine, estimated from a few steps with its chosen configuration.

    python scripts/v1_5/small/offline_parts.py PARTS
    python benchmarks/small_minutes.py DATA PARTS                      # both cores; run it with nothing else beside it

DATA and PARTS are those of scripts/v1_5/small/cross_validate.py. The tower's features of some pairs are computed, a
model is trained on them for some steps after two uncounted ones, and it writes captions with three beams. The times
are scaled to all pairs, to a training run on three quarters of them, and to the captions of the last quarter.
"""

import argparse
import math
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch

from btcchat.eval.encoders.machine import machine, memory, reset_peak
from btcchat.eval.encoders.markdown import table

SMALL = Path(__file__).resolve().parents[1] / "scripts" / "v1_5" / "small"
CHOSEN = "two depths, slower"  # docs/small.md


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("parts", type=Path)
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--steps", type=int, default=12, help="steps to time (default 12)")
    parser.add_argument("--tiny", action="store_true", help="smaller images and batches, to try the script")
    options = parser.parse_args(words)
    sys.path.insert(0, str(SMALL))
    # Here, because it registers the tower.
    from cross_validate import CANDIDATES, two_depths
    from dataset import read_pairs
    from features import read_masks, write_features
    from learn import Bench, captions, fresh_model, train

    config = replace(CANDIDATES[CHOSEN], beams=3, batch=4 if options.tiny else CANDIDATES[CHOSEN].batch)
    everything = read_pairs(options.data)
    few = everything[: config.batch]
    rows = range(len(few))
    tower = two_depths(SimpleNamespace(parts=options.parts, tiny=options.tiny))
    device = torch.device(options.device)
    reset_peak(device)
    bench = Bench(tower, options.parts / "llm", few, options.device)
    with tempfile.TemporaryDirectory() as folder:
        write_features(few[:2], bench.base, Path(folder, "warm.npy"), options.device)
        start = time.perf_counter()
        features = write_features(few, bench.base, Path(folder, "features.npy"), options.device)
        seen = (time.perf_counter() - start) / len(few)
        bench.attach(features, read_masks(few))
        model = fresh_model(bench, config, 0)
        train(model, bench, rows, replace(config, epochs=2), 0)  # a step is an epoch of so few pairs
        step = train(model, bench, rows, replace(config, epochs=options.steps), 0)["seconds"] / options.steps
        start = time.perf_counter()
        captions(model, bench, rows, config)
        said = (time.perf_counter() - start) / len(few)
    print(table(["what", "minutes"], scaled(len(everything), config.batch, config.epochs, (seen, step, said))))
    print(f"\n{config.batch / step:.2f} pairs a second in training; peak memory {memory(device, peak=True):,.0f} MiB")
    print(f"{machine(device)}, torch {torch.__version__}")


def scaled(pairs: int, batch: int, epochs: int, seconds: tuple[float, float, float]) -> list[tuple[str, str]]:
    """Rows of the table. seconds: for the features of a pair, for a step, and for the caption of a pair."""
    seen, step, said = seconds
    trained = round(0.75 * pairs)
    steps = epochs * math.ceil(trained / batch)
    parts = [
        (f"the tower's features of {pairs} pairs in eight views, once", pairs * seen),
        (f"a training run: {steps} steps of {batch} pairs", steps * step),
        (f"its captions of {pairs - trained} pairs", (pairs - trained) * said),
    ]
    return [(name, f"{value / 60:.1f}") for name, value in parts]


if __name__ == "__main__":
    main()
