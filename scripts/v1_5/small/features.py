"""The features of the frozen tower for every pair in all eight views of a square, computed once and kept in a file."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from PIL.Image import Transpose
from torch import Tensor

from btcchat import BTCChat
from btcchat.train.frozen_tower import FrozenTower
from dataset import Pair

VIEWS = (None, *Transpose)  # place in this list = first index of the features
STAGES = [5, 7]  # of the tower; the channels of stage 7 alone are the last WIDTHS[7]
WIDTHS = {5: 480, 7: 352}


def turned(x: Tensor, view: Transpose | None) -> Tensor:
    """Maps (..., h, w) as Pillow's ``transpose(view)`` shows them."""
    if view is None:
        return x
    across, down = (-1,), (-2,)
    return {
        Transpose.FLIP_LEFT_RIGHT: lambda: x.flip(across),
        Transpose.FLIP_TOP_BOTTOM: lambda: x.flip(down),
        Transpose.ROTATE_90: lambda: x.rot90(1, (-2, -1)),
        Transpose.ROTATE_180: lambda: x.rot90(2, (-2, -1)),
        Transpose.ROTATE_270: lambda: x.rot90(3, (-2, -1)),
        Transpose.TRANSPOSE: lambda: x.transpose(-2, -1),
        Transpose.TRANSVERSE: lambda: x.rot90(2, (-2, -1)).transpose(-2, -1),
    }[view]()


def write_features(pairs: list[Pair], model: BTCChat, file: Path, device: str) -> np.ndarray:
    """float16 (8 views, N, 2, L, C) in ``file``, which gets its name when it is complete; -> the array."""
    if not file.is_file():
        tower = FrozenTower(model.vision_tower.to(device))  # in bfloat16, as `btcchat train --bf16` computes it
        shape = (len(VIEWS), len(pairs), 2, model.vision_tower.num_tokens, model.vision_tower.hidden_size)
        part = file.with_suffix(".part.npy")
        store = np.lib.format.open_memmap(part, mode="w+", dtype=np.float16, shape=shape)
        with ThreadPoolExecutor(8) as pool:
            batches = (pairs[start : start + 32] for start in range(0, len(pairs), 32))
            start = 0
            for frames in pool.map(lambda own: _frames(model, own), batches):
                with torch.no_grad():
                    for number, view in enumerate(VIEWS):
                        shown = turned(frames.to(device), view)
                        seen = tower(model.image_processor.normalise(shown))[0]  # (2 n, L, C)
                        seen = seen.unflatten(0, (-1, 2)).half().cpu().numpy()
                        store[number, start : start + len(seen)] = seen
                start += len(frames) // 2
        store.flush()
        part.rename(file)
    return np.load(file, mmap_mode="r")


def _frames(model: BTCChat, pairs: list[Pair]) -> Tensor:
    """uint8 (2 n, 3, R, R), before and after in turn."""
    frames = []
    for pair in pairs:
        for path in (pair.before, pair.after):
            with Image.open(path) as image:
                frames.append(model.image_processor(image.convert("RGB")))
    return torch.stack(frames)


def read_masks(pairs: list[Pair]) -> Tensor:
    """bool (N, 256, 256): what LEVIR-CD marks as changed."""
    masks = []
    for pair in pairs:
        with Image.open(pair.mask) as image:
            masks.append(torch.from_numpy(np.array(image.convert("L"))) > 0)
    return torch.stack(masks)


def changed_share(masks: Tensor, grid: int) -> Tensor:
    """bool (N, H, W) -> float (views, N, g, g): the changed share of each patch, in every view."""
    share = F.adaptive_avg_pool2d(masks.float()[:, None], grid)[:, 0]
    return torch.stack([turned(share, view) for view in VIEWS])


def pooled(features: np.ndarray) -> np.ndarray:
    """(N, 2, L, C) -> (N, 3 C), as `btcchat eval` compares neighbours: mean of each date and of what differs."""
    tokens = torch.from_numpy(np.array(features)).float()
    parts = tokens[:, 0].mean(1), tokens[:, 1].mean(1), (tokens[:, 1] - tokens[:, 0]).abs().mean(1)
    return torch.cat([F.normalize(part, dim=-1) for part in parts], dim=1).numpy()
