"""From a PIL image to a tower's pixel values: resize; then, on the device, rescale and normalise."""

import torch
from PIL import Image
from torch import Tensor

from btcchat.errors import BTCChatError, choose
from btcchat.multimodal_encoder.resize import resized

ASPECT_RATIOS = {
    "pad": "onto a square canvas of the mean colour",
    "resize": "squashed to the size of the tower",
    "square": "the same as resize, as newer configs call it",
}


class ImageProcessor:
    """Make frames ``(3, H, W)`` for a vision tower from PIL RGB images.

    ``size`` is (height, width) in pixels, or one int: the length of the shorter edge, keeping the aspect ratio.
    ``mean`` and ``std`` are per channel on the rescaled values, ``resample`` is PIL's filter number (3 bicubic).
    """

    def __init__(
        self,
        size: tuple[int, int] | int,
        mean: list[float],
        std: list[float],
        resample: int = 3,
        rescale_factor: float = 1 / 255,
        aspect_ratio: str = "pad",
    ):
        choose("image_aspect_ratio", aspect_ratio, ASPECT_RATIOS)
        self.size = size
        self.mean, self.std = list(mean), list(std)
        self.resample = Image.Resampling(resample)
        self.rescale_factor = rescale_factor
        self.aspect_ratio = aspect_ratio
        # Rescaling and normalising are one affine step, (x * rescale - mean) / std, on (3, H, W).
        self._scale = rescale_factor / torch.tensor(self.std).view(3, 1, 1)
        self._shift = (torch.tensor(self.mean) / torch.tensor(self.std)).view(3, 1, 1)

    @classmethod
    def from_config(cls, config: dict, aspect_ratio: str | None = "pad") -> "ImageProcessor":
        """Read a preprocessor_config.json; ``aspect_ratio`` is the model's image_aspect_ratio (None: resize).

        Raises BTCChatError for an unknown aspect ratio or size.
        """
        size = config.get("size", 224)
        if isinstance(size, dict):
            if "shortest_edge" in size:
                size = size["shortest_edge"]
            elif {"height", "width"} <= size.keys():
                size = (size["height"], size["width"])
            else:
                raise BTCChatError(f"preprocessor_config.json: size {size} has neither height, width nor shortest_edge")
        else:
            size = (size, size)
        normalise = config.get("do_normalize", True)
        return cls(
            size,
            mean=config.get("image_mean", [0.5] * 3) if normalise else [0.0] * 3,
            std=config.get("image_std", [0.5] * 3) if normalise else [1.0] * 3,
            resample=config.get("resample", 3),
            rescale_factor=config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0,
            aspect_ratio=aspect_ratio or "resize",
        )

    def to_config(self) -> dict:
        """The preprocessor_config.json that `from_config` reads back; the aspect ratio is the model's own field."""
        if isinstance(self.size, int):
            size = {"shortest_edge": self.size}
        else:
            size = {"height": self.size[0], "width": self.size[1]}
        return {
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": self.mean,
            "image_processor_type": "SiglipImageProcessor",
            "image_std": self.std,
            "resample": int(self.resample),
            "rescale_factor": self.rescale_factor,
            "size": size,
        }

    def __call__(self, image: Image.Image) -> Tensor:
        """Resize an RGB image for the tower: uint8 ``(3, H, W)``."""
        if self.aspect_ratio == "pad":
            image = pad_to_square(image, fill=tuple(int(255 * mean) for mean in self.mean))
        return resized(image, self._target(image), self.resample)

    def normalise(self, frames: Tensor) -> Tensor:
        """uint8 ``(..., 3, H, W)`` -> normalised float32 pixel values for the tower, on the same device."""
        scale, shift = self._scale.to(frames.device), self._shift.to(frames.device)
        return frames.float().mul_(scale).sub_(shift)  # in place: half the time of the plain expression

    def _target(self, image: Image.Image) -> tuple[int, int]:
        """(width, height), PIL's order."""
        if not isinstance(self.size, int):
            return self.size[1], self.size[0]
        short = min(image.size)
        return self.size * image.width // short, self.size * image.height // short


def pad_to_square(image: Image.Image, fill: tuple[int, ...]) -> Image.Image:
    """Centre the image on the smallest square canvas that holds it; an odd pixel goes to the right or bottom."""
    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    canvas = Image.new("RGB", (side, side), fill)
    canvas.paste(image, ((side - width) // 2, (side - height) // 2))
    return canvas
