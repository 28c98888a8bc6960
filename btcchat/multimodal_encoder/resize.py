"""Pillow's resize, with the slower of its two passes as one sparse product."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

ONE = 2**22  # Pillow's weights are whole numbers of 2^-22


def resized(image: Image.Image, size: tuple[int, int], resample: int) -> Tensor:
    """``image.resize(size, resample)`` as uint8 ``(3, H, W)``. image: RGB. size: (width, height) in pixels.

    Pillow resizes along the rows, rounds, and then resizes along the columns. If these are enlarged, the second pass is
    done here with Pillow's own weights, but in float32, which may round a sum half way between two levels to the other
    one (bicubic, 256 to 384: 0.06 %).
    """
    width, height = size
    if height <= image.height:
        return _planes(image.resize(size, resample))
    planes = _planes(image.resize((width, image.height), resample)).float()  # (3, h, W)
    rows, weights, starts = _taps(image.height, height, resample)
    planes = F.embedding_bag(rows, planes.flatten(0, 1), starts, mode="sum", per_sample_weights=weights)  # (3 * H, W)
    levels = planes.clamp_(0, 255).add_(0.5).numpy().astype(np.uint8)  # truncates, in half the time of torch
    return torch.from_numpy(levels).view(3, height, width)


def _planes(image: Image.Image) -> Tensor:
    """(3, H, W) uint8; Pillow splits colours faster than a permuted copy does."""
    planes = torch.empty(3, image.height, image.width, dtype=torch.uint8)
    for plane, band in zip(planes, image.split(), strict=True):
        plane.copy_(torch.from_numpy(np.array(band)))
    return planes


@lru_cache(maxsize=256)
def _taps(rows: int, height: int, resample: int) -> tuple[Tensor, Tensor, Tensor]:
    """For three planes of ``rows`` rows resized to ``height``: the rows to sum, their weights, and where the sum of
    each new row begins.

    The weights are exactly Pillow's, whatever the filter: Pillow resizes an identity matrix.
    """
    unit = Image.fromarray(np.eye(rows, dtype=np.int32) * ONE)
    weights = np.asarray(unit.resize((height, rows), resample)).T  # (height, rows)
    new, old = weights.nonzero()  # sorted by new row
    plane = np.arange(3)[:, None]
    return (
        torch.from_numpy((old + plane * rows).astype(np.int32).ravel()),
        torch.from_numpy(np.tile(weights[new, old].astype(np.float32) / ONE, 3)),
        torch.from_numpy((np.searchsorted(new, np.arange(height)) + plane * len(new)).astype(np.int32).ravel()),
    )
