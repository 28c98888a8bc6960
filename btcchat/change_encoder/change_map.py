"""Where the two dates of a pair differ: the change encoder's own distance, as a map over the image."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from btcchat.change_encoder.distance import last_depth_distance
from btcchat.errors import BTCChatError
from btcchat.media import load_frames, load_image


def change_map(model, before, after) -> np.ndarray:
    """-> float32 (H, W) in 0..1 at the size of ``after``: 0 alike, 1 opposite. Images: paths or PIL.

    It is the cosine distance of the two dates' features in the change encoder (in the vision tower where that has no
    features of its own), a value a patch, interpolated. It says how far the features moved, not how probable a change
    is: choose a threshold on validation pairs.
    """
    frames = load_frames("pair", [before, after])
    pixels = torch.stack([model.image_processor(frame) for frame in frames])
    return change_maps(model, pixels[None], [frames[1].size])[0]


@torch.inference_mode()
def change_maps(model, pixels: torch.Tensor, sizes: list[tuple[int, int]]) -> list[np.ndarray]:
    """:func:`change_map` of many pairs (B, 2, 3, H, W); sizes: width and height of each image ``after``."""
    depths = model.vision_tower(pixels.flatten(0, 1).to(model.device))  # S x (2 B, L, C)
    features = torch.stack(depths, dim=1).unflatten(0, (-1, 2))  # (B, 2, S, L, C)
    distances = getattr(model.change_encoder, "distance", last_depth_distance)(features)  # (B, g, g)
    padded = model.image_processor.aspect_ratio == "pad"
    return [_at_size(one, *size, padded).clamp(0, 1).cpu().numpy() for one, size in zip(distances, sizes, strict=True)]


def _at_size(distance: torch.Tensor, width: int, height: int, padded: bool) -> torch.Tensor:
    """(g, g) -> (H, W). padded: the grid covers the square that the image was padded to."""
    across, down = (max(width, height),) * 2 if padded else (width, height)
    field = F.interpolate(distance.float()[None, None], size=(down, across), mode="bilinear", align_corners=False)
    top, left = (down - height) // 2, (across - width) // 2
    return field[0, 0, top : top + height, left : left + width]


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


def save_overlay(change: np.ndarray, after: Image.Image | str | Path, path: Path) -> None:
    """Write :func:`overlay` of a map and the image it belongs to as a PNG file, complete or not at all."""
    _save(overlay(change, load_image(after)), path)


def save_map(change: np.ndarray, path: Path) -> None:
    """Write a map (H, W) in 0..1 as an 8-bit grey PNG file, 255 the most changed; complete or not at all."""
    _save(Image.fromarray((change * 255).round().astype(np.uint8)), path)


def _save(image: Image.Image, path: Path) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        image.save(part, format="PNG")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BTCChatError(f"{path} cannot be written: {error.strerror or error}") from error
