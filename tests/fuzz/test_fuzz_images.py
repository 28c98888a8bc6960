"""Mutated bytes of small images of each format."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from btcchat.errors import BTCChatError
from btcchat.media import load_image
from btcchat.media.source import Embedded
from tests.fuzz.values import EDITS, ENDS, TIMES, mutated

NOISE = np.random.default_rng(0).integers(0, 256, (24, 20, 4), dtype=np.uint8)
RGB, RGBA = Image.fromarray(NOISE[..., :3]), Image.fromarray(NOISE)
DEEP = Image.fromarray(NOISE[..., 0].astype(np.uint16) * 200)
FORMATS = {
    "png": (RGBA, "PNG", {}),
    "16 bit png": (DEEP, "PNG", {}),
    "palette png": (RGB.quantize(16), "PNG", {"transparency": 0}),
    "jpeg": (RGB, "JPEG", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}),
    "webp": (RGBA, "WEBP", {}),
    "bmp": (RGB, "BMP", {}),
    "gif": (RGB, "GIF", {"save_all": True, "append_images": [RGB.rotate(90)]}),
    "jp2": (RGB, "JPEG2000", {}),
    "ppm": (RGB, "PPM", {}),
    "tiff": (RGB, "TIFF", {}),
    "lzw tiff": (RGBA, "TIFF", {"compression": "tiff_lzw"}),
    "deflate tiff": (DEEP, "TIFF", {"compression": "tiff_adobe_deflate"}),
    "float tiff": (Image.fromarray(NOISE[..., 0].astype(np.float32)), "TIFF", {}),
}


def encoded(name: str) -> bytes:
    image, kind, options = FORMATS[name]
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=150 * TIMES)
@given(edits=EDITS, end=ENDS)
def test_an_image_is_read_or_refused_in_one_line(name, edits, end):
    data = mutated(encoded(name), edits, end)
    try:
        image = load_image(Embedded(f"a.{name.split()[-1]}", data), max_pixels=2**22)
    except BTCChatError as error:
        assert "\n" not in str(error)
    else:
        assert image.mode == "RGB" and image.width * image.height <= 2**22


@settings(max_examples=150 * TIMES)
@given(edits=EDITS, end=ENDS)
def test_a_video_is_read_or_refused_in_one_line(edits, end):
    from btcchat.media import load_frames

    try:
        frames = load_frames("video", Embedded("a.mp4", mutated(encoded("gif"), edits, end)), 2)
    except BTCChatError as error:
        assert "\n" not in str(error)
    else:
        assert 1 <= len(frames) <= 2
