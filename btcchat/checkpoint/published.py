"""Whether the published code (UniRS on VILA-1.5) can open a folder that we save, and the keys that it reads."""

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

from btcchat.multimodal_projector import projector_name

if TYPE_CHECKING:
    from btcchat.checkpoint.config import BTCChatConfig

logger = logging.getLogger(__name__)

TOWER = {"architectures": ["SiglipVisionModel"]}  # it picks the tower's class by this
PAIRS = "mm_projector"  # in mm_projector_type: the projector has a change encoder (layers.change, layers.single)


def obstacle(config: "BTCChatConfig", *, adapter: bool) -> str | None:
    """The part that the published code does not support, in words; None if it supports all."""
    encoder, names = config.change_encoder or {}, config.part_names
    if adapter:
        return "an adapter"
    if config.quantization is not None:
        return f"{config.quantization['kind']} weights"
    if config.plugins:
        return f"the plugin {config.plugins[0]['module']}"
    if names["change encoder"] != "attentive":
        return f"change encoder {encoder.get('change_encoder_type')}"
    if projector_name(config.mm_projector) != "mlp_downsample":
        return f"projector {names['projector']}"
    if config.vision_tower.get("model_type") != "siglip_vision_model" or names["vision tower"] is not None:
        return f"vision tower {names['vision tower'] or config.vision_tower.get('model_type')}"
    if names["language model"] != "llama":
        return f"language model {names['language model']}"
    if len(config.select_layers) > 1:
        return f"features of {len(config.select_layers)} depths"
    return None


def add_keys(parts: dict[str, dict[str, Any]]) -> None:
    """Add the keys of the part configs that only the published code reads."""
    parts["vision_tower"] |= TOWER
    parts["mm_projector"]["mm_projector_type"] = PAIRS


@cache
def say(reason: str) -> None:
    """Log once per process that the published code cannot open the model."""
    logger.info("the published code cannot open the saved model: it does not support %s", reason)
