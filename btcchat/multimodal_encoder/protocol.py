"""What a vision tower is: the contract that every row of VISION_TOWERS fulfils."""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class VisionTower(Protocol):
    """Images in, their tokens at one or several depths out.

    Built from ``config``, the contents of vision_tower/config.json. ``select_layer`` and ``select_feature`` are
    mm_vision_select_layer and mm_vision_select_feature of the model's config. It is an ``nn.Module``.

    Its class may have a static method ``check_sizes(config, weights)``. It is called before a tower is built, with
    checkpoint.weights.Weights, and raises BTCChatError if the two do not fit.
    """

    config: dict[str, Any]  # what a saved vision_tower/config.json says

    def __init__(self, config: dict[str, Any], *, select_layer: int | list[int], select_feature: str) -> None: ...

    @property
    def hidden_size(self) -> int:
        """C: the channels of a token."""
        ...

    @property
    def num_tokens(self) -> int:
        """L: the tokens of an image."""
        ...

    @property
    def num_depths(self) -> int:
        """S: the selected layers."""
        ...

    @property
    def grid(self) -> int:
        """Patches per side."""
        ...

    @property
    def resolution(self) -> int:
        """Pixels per side."""
        ...

    def __call__(self, pixel_values: Tensor) -> list[Tensor]:
        """float ``(N, 3, R, R)``, R being `resolution` -> S tensors ``(N, L, C)``, one for each selected layer."""
        ...

    def default_preprocessor_config(self) -> dict[str, Any]:
        """The contents of a preprocessor_config.json, for a checkpoint that has none."""
        ...

    def resize(self, resolution: int) -> None:
        """Set the input size in pixels and adapt the position embeddings."""
        ...

    def gradient_checkpointing_enable(self) -> None:
        """In training, keep only the input of each block and recompute the rest in the backward pass."""
        ...


class VisionTowerModule(VisionTower, nn.Module):
    """What `build_vision_tower` returns, for annotations: a `VisionTower` that is an ``nn.Module``."""
