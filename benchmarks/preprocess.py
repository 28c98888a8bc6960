"""Images per second from PIL image to pixel values: btcchat's image processor against Hugging Face's for SigLIP.

    python benchmarks/preprocess.py ../shared/data/levir_cc_subset/images/train/{A,B}

Each processor turns decoded images into float32 tensors (3, 384, 384): bicubic resize, rescale by 1/255, mean and std
0.5. The processors alternate, --repeats times; the fastest turn counts.

transformers 4.36, the reference version of this project, has no SiglipImageProcessor. With it, CLIP's processor gets
SigLIP's settings and runs the same code (resize, rescale and normalize of transformers.image_transforms).
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from PIL import Image

from btcchat.eval.encoders.machine import machine
from btcchat.eval.encoders.markdown import table
from btcchat.media.source import list_images
from btcchat.multimodal_encoder.preprocess import ImageProcessor

HALF = [0.5, 0.5, 0.5]


def hugging_face(side: int) -> tuple[str, Callable]:
    """The name of the processor, and a function from a PIL image to a tensor (3, H, W)."""
    settings = {"size": {"height": side, "width": side}, "resample": 3, "image_mean": HALF, "image_std": HALF}
    if hasattr(transformers, "SiglipImageProcessor"):
        name, processor = "SiglipImageProcessor", transformers.SiglipImageProcessor(**settings)
    else:
        name, processor = "CLIPImageProcessor", transformers.CLIPImageProcessor(**settings, do_center_crop=False)

    def process(image: Image.Image) -> torch.Tensor:
        return processor(image, return_tensors="pt")["pixel_values"][0]

    return f"{name}, transformers {transformers.__version__}", process


def seconds(process: Callable, images: list[Image.Image]) -> float:
    start = time.perf_counter()
    for image in images:
        process(image)
    return time.perf_counter() - start


def measure(ways: dict[str, Callable], images: list[Image.Image], repeats: int) -> dict[str, float]:
    """Images per second of each processor in its fastest turn."""
    turns = [{name: seconds(process, images) for name, process in ways.items()} for _ in range(repeats)]
    return {name: len(images) / min(turn[name] for turn in turns) for name in ways}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="folders of images")
    parser.add_argument("--images", type=int, default=200, help="maximum number of images (default 200)")
    parser.add_argument("--side", type=int, default=384, help="side of the resized images in pixels (default 384)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each processor (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads (default 1, as in a data worker)")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    files = [file for folder in args.folders for file in list_images(folder)]
    if not files:
        parser.error(f"there is no image in {' '.join(map(str, args.folders))}")
    images = [Image.open(file).convert("RGB") for file in files[:: -(-len(files) // args.images)]]
    name, theirs = hugging_face(args.side)
    processor = ImageProcessor((args.side, args.side), HALF, HALF, aspect_ratio="resize")

    def ours(image: Image.Image) -> torch.Tensor:
        return processor.normalise(processor(image))

    sizes = sorted({f"{image.width} x {image.height}" for image in images})
    print(
        f"{len(images)} images of {', '.join(sizes[:3])} to {args.side} x {args.side}; {machine(torch.device('cpu'))}\n"
    )
    off = torch.stack([((theirs(image) - ours(image)) * 127.5).abs().round().max() for image in images]).max()
    speed = measure({name: theirs, "btcchat": ours}, images, args.repeats)
    print(table(["image processor", "images/s", "ms"], [[n, f"{s:.0f}", f"{1000 / s:.2f}"] for n, s in speed.items()]))
    print(f"\nspeed-up {speed['btcchat'] / speed[name]:.2f}x (goal 8x)")
    print(f"largest difference {off:.0f} grey level{'s' * (off != 1)} of 255 (goal 1)")


if __name__ == "__main__":
    main()
