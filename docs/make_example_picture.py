"""Draw docs/example.png: the packaged example pair and what the packaged model says of it.

python docs/make_example_picture.py
"""

import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from btcchat import BTCChat
from btcchat.commands.caption import EXAMPLE

SIDE, GAP, LINE = 384, 24, 30  # pixels
INK, PAPER, QUIET = (20, 24, 31), (255, 255, 255), (110, 118, 129)


def draw(pair: list[Image.Image], answer: str) -> Image.Image:
    """Both dates side by side, their names above, the answer below."""
    lines = textwrap.wrap(answer, 64)
    canvas = Image.new("RGB", (2 * SIDE + 3 * GAP, SIDE + 4 * GAP + LINE * (len(lines) + 1)), PAPER)
    pen = ImageDraw.Draw(canvas)
    small, large = ImageFont.load_default(18), ImageFont.load_default(22)
    for number, (name, image) in enumerate(zip(("before", "after"), pair, strict=True)):
        left = GAP + number * (SIDE + GAP)
        pen.text((left, GAP // 2), name, QUIET, font=small)
        canvas.paste(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC), (left, GAP + LINE // 2))
    top = SIDE + 2 * GAP + LINE // 2
    pen.text((GAP, top), "$ btcchat caption before.png after.png", QUIET, font=small)
    for number, line in enumerate(lines, start=1):
        pen.text((GAP, top + number * LINE), line, INK, font=large)
    return canvas


def main() -> None:
    paths = [EXAMPLE / "before.png", EXAMPLE / "after.png"]
    answer = BTCChat.from_pretrained(device="cpu").caption(*paths)
    out = Path(__file__).with_name("example.png")
    draw([Image.open(path) for path in paths], answer).save(out, optimize=True)
    print(f"{out}: {answer}")


if __name__ == "__main__":
    main()
