"""Where the two dates of a pair differ: the change encoder's own distance, as a map over the image."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from btcchat.change_encoder.distance import last_depth_distance
from btcchat.data.media import load_frames, load_image


@torch.inference_mode()
def change_map(model, before, after) -> np.ndarray:
    """-> float32 (H, W) in 0..1 at the size of ``after``: 0 alike, 1 opposite. Images: paths or PIL.

    It is the cosine distance of the two dates' features in the change encoder (in the vision tower where that has no
    features of its own), a value a patch, interpolated. It says how far the features moved, not how probable a change
    is: choose a threshold on validation pairs.
    """
    frames = load_frames("pair", [before, after])
    pixels = torch.stack([model.image_processor(frame) for frame in frames])
    depths = model.vision_tower(pixels.to(model.device))  # S x (2, L, C)
    features = torch.stack(depths, dim=1)[None]  # (1, 2, S, L, C)
    distance = getattr(model.change_encoder, "distance", last_depth_distance)(features)[0]  # (g, g)
    width, height = frames[1].size
    field = distance.float()[None, None]
    if model.image_processor.aspect_ratio == "pad":  # the map covers the square that the image was padded to
        side = max(width, height)
        field = F.interpolate(field, size=(side, side), mode="bilinear", align_corners=False)
        top, left = (side - height) // 2, (side - width) // 2
        field = field[..., top : top + height, left : left + width]
    else:
        field = F.interpolate(field, size=(height, width), mode="bilinear", align_corners=False)
    return field[0, 0].clamp(0, 1).cpu().numpy()


def overlay(change: np.ndarray, image: Image.Image) -> Image.Image:
    """Draw a map (H, W) in 0..1 over ``image``: the stronger the change, the redder. Returns an RGB image.

    The colours span the map's own range, so that a faint change shows; the numbers are in the map.
    """
    low, high = float(change.min()), float(change.max())
    strength = (change - low) / (high - low) if high > low else np.zeros_like(change)
    alpha = (0.75 * strength)[..., None]  # (H, W, 1)
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    red = np.array([255.0, 32.0, 32.0], dtype=np.float32)
    return Image.fromarray((pixels * (1 - alpha) + red * alpha).round().astype(np.uint8))


def save_overlay(change: np.ndarray, after, path: Path) -> None:
    """Write :func:`overlay` of a map and the image it belongs to as a PNG file, complete or not at all."""
    part = path.with_name(f".{path.name}.part")
    overlay(change, load_image(after)).save(part, format="PNG")
    part.replace(path)
