"""Draw docs/inputs.png: a pair of 16-bit values, with a cloud over one date, in per-date and in shared stretch.

python docs/make_inputs_picture.py
"""

import tempfile
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image, ImageDraw, ImageFont

from btcchat.commands.caption import EXAMPLE
from btcchat.media import Reading, load_frames

SIDE, GAP, TITLE = 288, 20, 26  # pixels
INK, PAPER = (20, 24, 31), (255, 255, 255)
CLOUD = 9000
ROWS = (
    ("--stretch per-date: the cloud sets the range of its date, and everything seems to have changed", "per-date"),
    ("--stretch shared, the default: unchanged ground has the same grey levels", "shared"),
)


def reflectances(path: Path) -> np.ndarray:
    """A drawn scene as uint16 reflectances of 300 to 3,100, (H, W, 3)."""
    levels = np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return (300 + levels * (2800 / 255)).astype(np.uint16)


def under_cloud(values: np.ndarray) -> np.ndarray:
    """The values with a soft cloud over a tenth of them."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    far = np.hypot((x - 0.82) / 0.20, (y - 0.2) / 0.17)
    opacity = np.clip((1.15 - far) / 0.3, 0, 1)[..., None]
    return (values * (1 - opacity) + CLOUD * opacity).astype(np.uint16)


def draw(paths: list[Path]) -> Image.Image:
    """A row for each stretch: its name, and both dates below."""
    height = TITLE + SIDE + GAP
    canvas = Image.new("RGB", (2 * SIDE + 3 * GAP, len(ROWS) * height + GAP), PAPER)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for row, (title, stretch) in enumerate(ROWS):
        pen.text((GAP, GAP + row * height), title, INK, font=font)
        for column, frame in enumerate(load_frames("pair", paths, reading=Reading(stretch=stretch))):
            canvas.paste(frame, (GAP + column * (SIDE + GAP), GAP + TITLE + row * height))
    return canvas


def main() -> None:
    out = Path(__file__).with_name("inputs.png")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("before.tif", "after.tif")]
        dates = reflectances(EXAMPLE / "before.png"), under_cloud(reflectances(EXAMPLE / "after.png"))
        for path, values in zip(paths, dates, strict=True):
            with rasterio.open(path, "w", driver="GTiff", width=SIDE, height=SIDE, count=3, dtype="uint16") as file:
                file.write(values.transpose(2, 0, 1))
        draw(paths).quantize(192).save(out, optimize=True)
    print(out)


if __name__ == "__main__":
    main()
