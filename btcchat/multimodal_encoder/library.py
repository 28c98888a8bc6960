"""What the towers of other libraries (timm, open_clip) share: a ViT with ``forward_intermediates``."""

import difflib
import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from btcchat.errors import BTCChatError
from btcchat.multimodal_encoder.select import resolve_layers, select_start

PIL_FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}


class LibraryTower(nn.Module):
    """``(N, 3, H, W)`` -> one ``(N, L, C)`` per selected layer, patch tokens only.

    Change encoders and mlp_downsample need the square grid, so a class token of the ViT is dropped, and both values of
    mm_vision_select_feature mean the same here. Layers are numbered from 1 (first block), or backwards from -1 (last).
    A subclass sets ``vit``, ``hidden_size`` and ``num_layers``, and knows its library's size and statistics.
    Raises BTCChatError for an unknown model, layer or feature, and for a library that is not installed.
    """

    hidden_size: int
    num_layers: int

    def __init__(self, config: dict[str, Any], *, select_layer: int | list[int], select_feature: str):
        super().__init__()
        select_start(select_feature)  # raises for an unknown one
        if not config.get("model_name"):
            raise BTCChatError(
                f"vision tower '{config['vision_tower_type']}' needs a model_name in its config; add one"
            )
        # From now on the weights are in the module: a saved config must not download the pretrained ones again.
        self.config = dict(config) | {"pretrained": False}
        self.build(config)
        self.select_layers = resolve_layers(select_layer, self.num_layers)
        if 0 in self.select_layers:
            raise BTCChatError(
                f"mm_vision_select_layer {select_layer}: a tower of {config['vision_tower_type']} gives no embeddings "
                f"(layer 0); choose from 1 to {self.num_layers}, or -1 to {-self.num_layers}"
            )

    def build(self, config: dict[str, Any]) -> None:
        raise NotImplementedError

    def intermediates(self, pixel_values: Tensor, blocks: list[int]) -> list[Tensor]:
        """The outputs ``(N, L, C)`` of these blocks, which are counted from 0, in ascending order."""
        raise NotImplementedError

    def gradient_checkpointing_enable(self) -> None:
        vit: Any = self.vit  # timm's and open_clip's have this method, torch's Module has not
        vit.set_grad_checkpointing(True)

    @property
    def resolution(self) -> int:
        raise NotImplementedError

    @property
    def grid(self) -> int:
        raise NotImplementedError

    @property
    def num_tokens(self) -> int:
        return self.grid**2

    @property
    def num_depths(self) -> int:
        return len(self.select_layers)

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        numbers = sorted(set(self.select_layers))
        dtype = next(self.parameters()).dtype
        outputs = self.intermediates(pixel_values.to(dtype), [number - 1 for number in numbers])
        states = dict(zip(numbers, outputs, strict=True))
        return [states[number] for number in self.select_layers]

    def preprocessor_config(self, mean: Sequence[float], std: Sequence[float], interpolation: str) -> dict[str, Any]:
        """The library's statistics in the words of a preprocessor_config.json."""
        return {
            "size": {"height": self.resolution, "width": self.resolution},
            "image_mean": list(mean),
            "image_std": list(std),
            "resample": PIL_FILTERS.get(interpolation, PIL_FILTERS["bicubic"]),
            "rescale_factor": 1 / 255,
        }


def import_library(module: str, package: str) -> ModuleType:
    """Import an optional library. Raises BTCChatError, which names the extra to install, if that fails."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as fault:  # the last two: torchvision built for another torch
        raise BTCChatError(
            f"vision tower '{module}' needs the package {package}, which cannot be imported ({fault}); "
            "install it with: pip install 'btcchat[towers]'"
        ) from fault


def known_model(library: str, name: str, names: Sequence[str]) -> str:
    """Return ``name``. Raises BTCChatError with the nearest names if it is unknown: there are too many to list."""
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; see {library}.list_models()"
    raise BTCChatError(f"unknown {library} model '{name}'{hint}")


def square(library: str, name: str, size: Sequence[int] | int) -> int:
    """The side of a square input in pixels; size: (height, width). Raises BTCChatError if it is not square."""
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise BTCChatError(
            f"{library} model '{name}' has an input of {height}x{width} pixels, expected a square; choose another model"
        )
    return height
