"""Vision towers: images in, their tokens at one or several depths out.

protocol.py says what a tower must and may have.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from btcchat.checkpoint.weights import Weights
from btcchat.contract.construct import construct
from btcchat.errors import BTCChatError, choose
from btcchat.multimodal_encoder import open_clip, siglip
from btcchat.multimodal_encoder.contract import check_attributes
from btcchat.multimodal_encoder.open_clip import OpenClipTower
from btcchat.multimodal_encoder.protocol import VisionTower, VisionTowerModule
from btcchat.multimodal_encoder.siglip import SiglipTower
from btcchat.multimodal_encoder.timm import TimmTower
from btcchat.registry import Registry

VISION_TOWERS: Registry[type[VisionTower]] = Registry(
    "vision tower",
    {
        "siglip": SiglipTower,
        "timm": TimmTower,
        "open_clip": OpenClipTower,
    },
)

# Patterns, for the whole key, of weights in published folders that no tower uses.
UNUSED_KEYS = siglip.UNUSED_KEYS + open_clip.UNUSED_KEYS

# Hugging Face folders name their architecture by model_type; "siglip" is the full model with its text half.
# SigLIP 2 of a fixed resolution has these names too; siglip2 is its NaFlex form.
MODEL_TYPES = {"siglip_vision_model": "siglip", "siglip": "siglip"}
NAFLEX = ("siglip2", "siglip2_vision_model")


def build_vision_tower(
    config: Mapping[str, Any], *, select_layer: int | list[int], select_feature: str
) -> VisionTowerModule:
    """Build the tower that ``config``, a vision_tower/config.json, describes, with fresh weights.

    The kind is ``config["vision_tower_type"]``, or else follows from ``config["model_type"]``. Raises BTCChatError for
    an unknown kind, layer or feature, for sizes that do not fit, and for a tower that breaks its contract.
    """
    name = tower_name(config)
    selected = {"select_layer": select_layer, "select_feature": select_feature}
    tower = construct("vision tower", name, VISION_TOWERS.find(name), dict(config), **selected)
    check_attributes(name, tower)
    return cast(VisionTowerModule, tower)


def check_sizes(config: Mapping[str, Any], weights: Weights, file: Path, way_out: str) -> None:
    """Raise BTCChatError if ``config``, read from ``file``, describes no known tower or does not fit the weights."""
    try:
        check = getattr(VISION_TOWERS.find(tower_name(config)), "check_sizes", None)
        if check is not None:
            check(config, weights)
    except BTCChatError as error:
        raise BTCChatError(f"{file}: {error}; {way_out}") from None


def tower_name(config: Mapping[str, Any]) -> str:
    """The registry's name of the tower that ``config`` describes. Raises BTCChatError if it describes none."""
    name = config.get("vision_tower_type")
    if name is None:
        if "model_type" not in config:
            raise BTCChatError(
                "the vision tower's config has neither 'vision_tower_type' nor 'model_type'; "
                f"add vision_tower_type, one of {', '.join(sorted(VISION_TOWERS))}"
            )
        if config["model_type"] in NAFLEX:
            raise BTCChatError(
                f"vision tower model_type '{config['model_type']}' is SigLIP 2 NaFlex, for images of any shape; use "
                "a SigLIP 2 of a fixed resolution, e.g. google/siglip2-base-patch16-256"
            )
        name = choose("vision tower model_type", config["model_type"], MODEL_TYPES)
    return str(name)
