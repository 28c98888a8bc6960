"""Resized images equal those of Pillow, for any filter and size."""

import numpy as np
import pytest
import torch
from PIL import Image

from btcchat.multimodal_encoder.resize import resized

SIZES = [  # (width, height) before and after
    ((256, 256), (384, 384)),
    ((64, 48), (384, 384)),
    ((100, 30), (70, 71)),
    ((3, 2), (50, 40)),
    ((1, 1), (5, 7)),
    ((33, 20), (33, 21)),
]


def noise(width: int, height: int) -> Image.Image:
    """Black, white and all values between, so that sums overshoot at both ends."""
    values = np.random.default_rng(0).integers(-128, 384, (height, width, 3)).clip(0, 255)
    return Image.fromarray(values.astype(np.uint8))


def difference(image: Image.Image, size: tuple[int, int], resample: int) -> torch.Tensor:
    expected = torch.from_numpy(np.array(image.resize(size, resample))).permute(2, 0, 1)
    found = resized(image, size, resample)
    assert found.dtype == torch.uint8 and found.is_contiguous() and found.shape == expected.shape
    return (found.float() - expected).abs()


@pytest.mark.parametrize("resample", list(Image.Resampling))
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_an_enlarged_image_differs_from_pillows_by_one_level_in_few_places(before, after, resample):
    off = difference(noise(*before), after, resample)
    assert off.max() <= 1
    ties = resample == Image.Resampling.BILINEAR  # its weights are simple fractions: sums often end on a half
    assert off.sum() <= (0.03 if ties else 1e-3) * off.numel()


@pytest.mark.parametrize("resample", list(Image.Resampling))
@pytest.mark.parametrize("size", [(20, 48), (64, 48), (90, 48), (90, 20), (30, 20)])
def test_an_image_that_does_not_grow_in_height_equals_pillows(size, resample):
    assert difference(noise(64, 48), size, resample).max() == 0


def test_real_tiles_differ_from_pillows_by_at_most_one_level(shared):
    files = sorted((shared / "data/levir_cc_subset/images").rglob("[AB]/*.jpg"))[::50]
    assert len(files) > 15
    off = torch.stack([difference(Image.open(f).convert("RGB"), (384, 384), Image.Resampling.BICUBIC) for f in files])
    assert off.max() <= 1 and off.mean() < 1e-3
