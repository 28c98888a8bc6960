"""Draw docs/tutorial.jpg: a drawn pair, and its change map over the later date, as in docs/tutorial_analyst.md.

python docs/make_tutorial_picture.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

SIDE, GAP = 320, 8  # pixels


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw = ["btcchat.synthetic", "--out", "drawn", "--pairs", "6", "--seed", "7"]
        pair = ["drawn/pairs/000005_before.jpg", "drawn/pairs/000005_after.jpg"]
        for module, *words in (draw, ["btcchat", "caption", *pair, "--change-map", "where.png"]):
            subprocess.run([sys.executable, "-m", module, *words], cwd=folder, check=True)
        canvas = Image.new("RGB", (3 * SIDE + 2 * GAP, SIDE), "white")
        for number, file in enumerate([*pair, "where.png"]):
            image = Image.open(folder / file).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            canvas.paste(image, (number * (SIDE + GAP), 0))
    canvas.save(Path(__file__).with_name("tutorial.jpg"), quality=88)


if __name__ == "__main__":
    main()
