"""Put a trained tiny model into the package, in bfloat16, with the threshold of its change maps and a held-out pair as
its example.

python scripts/v1_5/tiny/package.py runs/tiny/4_questions
"""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from btcchat import BTCChat
from btcchat.eval.maps.masks import LEVELS, best_level
from btcchat.synthetic import make_pair

ASSETS = Path(__file__).resolve().parents[3] / "btcchat" / "assets"
EXAMPLE_SEED = 547  # of the held-out scenes
GSD = 0.5  # metres of a pixel of the drawn scenes
CALIBRATION = range(10_000_000, 10_000_120)  # seeds of pairs that are in no mixture


def calibrated(model: BTCChat) -> dict[str, Any]:
    """``change_threshold``: the value of the model's change maps with the best IoU over the pairs of CALIBRATION."""
    counts = np.zeros((len(CALIBRATION), 2, LEVELS), np.int64)
    for number, seed in enumerate(CALIBRATION):
        pair = make_pair(seed)
        levels = (model.change_map(*pair.images) * (LEVELS - 1)).round().astype(int)
        counts[number] = [np.bincount(levels[pair.mask == changed], minlength=LEVELS) for changed in (False, True)]
    value = round(best_level(counts) / (LEVELS - 1), 4)
    return {"value": value, "chosen_on": f"{len(CALIBRATION)} synthetic pairs that were not trained on, by IoU"}


def main(checkpoint: str) -> None:
    model = BTCChat.from_pretrained(checkpoint, device="cpu")
    model.config.training_gsd, model.config.change_threshold = GSD, calibrated(model)
    with TemporaryDirectory(dir=ASSETS) as folder:
        model.save_pretrained(f"{folder}/tiny", dtype=torch.bfloat16)
        shutil.rmtree(ASSETS / "tiny", ignore_errors=True)  # the earlier model; git has it
        Path(folder, "tiny").rename(ASSETS / "tiny")
    (ASSETS / "example").mkdir(exist_ok=True)
    for name, pixels in zip(("before", "after"), make_pair(EXAMPLE_SEED, heldout=True).images, strict=True):
        Image.fromarray(pixels).save(ASSETS / "example" / f"{name}.png", optimize=True)
    size = sum(file.stat().st_size for file in (ASSETS / "tiny").rglob("*.safetensors"))
    print(f"{ASSETS / 'tiny'}: {size / 1e6:.1f} MB of weights")


if __name__ == "__main__":
    main(sys.argv[1])
