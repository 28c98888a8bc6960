"""Draw the page's examples of a series and of a video, of held-out scenes that the packaged model gets right.

python scripts/v1_5/tiny/page_examples.py
"""

from pathlib import Path

import av
from PIL import Image

from btcchat import BTCChat
from btcchat.synthetic import make_series, make_video

FOLDER = Path(__file__).resolve().parents[3] / "btcchat" / "serve" / "page" / "examples"
SERIES_SEED, YEARS = 9, (2016, 2019, 2022)
VIDEO_SEED, FRAMES_PER_SECOND = 11, 2
QUESTIONS = ("What happens in this {}?", "When did it happen?")


def write_clip(path: Path, frames: list) -> None:
    """frames: uint8 (256, 256, 3) each. VP9 plays in every browser."""
    with av.open(str(path), "w") as clip:
        stream = clip.add_stream("libvpx-vp9", rate=FRAMES_PER_SECOND, options={"crf": "24", "b": "0"})
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        for frame in frames:
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        clip.mux(stream.encode())


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    paths = [FOLDER / f"{year}.webp" for year in YEARS]
    for path, pixels in zip(paths, make_series(SERIES_SEED, heldout=True).images, strict=True):
        Image.fromarray(pixels).save(path, quality=88, method=6)
    clip = FOLDER / "clip.webm"
    write_clip(clip, make_video(VIDEO_SEED, heldout=True).images)
    model = BTCChat.from_pretrained(device="cpu")
    for question in QUESTIONS:
        print("series:", model.ask(question.format("series"), series=paths))
        print("video:", model.ask(question.format("video"), video=clip))
    for path in (*paths, clip):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
