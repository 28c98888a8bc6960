"""Put a trained tiny model into the package, in bfloat16, with a held-out pair as its example.

python scripts/v1_5/tiny/package.py runs/tiny/3_llm
"""

import sys
from pathlib import Path

import torch
from PIL import Image

from btcchat import BTCChat
from btcchat.synthetic import make_pair

ASSETS = Path(__file__).resolve().parents[3] / "btcchat" / "assets"
EXAMPLE_SEED = 4  # of the held-out scenes


def main(checkpoint: str) -> None:
    model = BTCChat.from_pretrained(checkpoint, device="cpu")
    model.save_pretrained(ASSETS / "tiny", dtype=torch.bfloat16)
    (ASSETS / "example").mkdir(exist_ok=True)
    for name, pixels in zip(("before", "after"), make_pair(EXAMPLE_SEED, heldout=True).images, strict=True):
        Image.fromarray(pixels).save(ASSETS / "example" / f"{name}.png", optimize=True)
    size = sum(file.stat().st_size for file in (ASSETS / "tiny").rglob("*.safetensors"))
    print(f"{ASSETS / 'tiny'}: {size / 1e6:.1f} MB of weights")


if __name__ == "__main__":
    main(sys.argv[1])
