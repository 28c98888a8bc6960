"""Flags of a training command that the checkpoint answers already: they must agree with it."""

import re
from pathlib import Path

from btcchat.checkpoint.config import BTCChatConfig, read_config, read_layers
from btcchat.errors import BTCChatError
from btcchat.multimodal_projector import projector_name

TOWER_KEYS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "patch_size", "image_size"
)  # fmt: skip
# Widths and depths behind the names of google/siglip-*; each one's config.json on the hub says them.
SIGLIP = {
    "base": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "large": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
    "so400m": {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16},
}


def check_agreement(flags, config: BTCChatConfig) -> None:
    """Raises BTCChatError naming both values where a flag contradicts the checkpoint's config."""
    said = {
        "mm_vision_select_layer": config.mm_vision_select_layer,
        "mm_vision_select_feature": config.mm_vision_select_feature,
        "mm_projector": projector_name(config.mm_projector),
        "mm_use_im_start_end": False,  # BTCChatConfig.load refuses a checkpoint that says True
        "mm_use_im_patch_token": False,
    }
    for name, has in said.items():
        asked = getattr(flags, name)
        if name == "mm_vision_select_layer" and asked is not None:
            asked = read_layers(asked)
        if asked is not None and asked != has:
            raise BTCChatError(f"--{name} is {asked}, the checkpoint's config.json says {has}; leave the flag out")
    if flags.chg and config.change_encoder["change_encoder_type"] == "concat":
        raise BTCChatError("--chg True, but the checkpoint's change encoder is concat; name one with --chg_type")
    if flags.vision_tower is not None:
        _check_tower(flags.vision_tower, config.vision_tower)


def _check_tower(asked: str, has: dict) -> None:
    """A hub id names sizes, a folder's config.json says them; a tower of timm or open_clip is compared by its name."""
    if "model_name" in has:
        wanted = {"model_name": asked}
    elif match := re.fullmatch(rf"(?:google/)?siglip-({'|'.join(SIGLIP)})-patch(\d+)-(\d+)", asked):
        wanted = SIGLIP[match[1]] | {"patch_size": int(match[2]), "image_size": int(match[3])}
    elif Path(asked).is_dir():
        config = read_config(Path(asked) / "config.json")
        wanted = config.get("vision_config", config)
    else:
        sizes = ", ".join(f"{key} {has[key]}" for key in TOWER_KEYS if key in has)
        raise BTCChatError(
            f"--vision_tower {asked} is neither a folder here nor google/siglip-SIZE-patchP-R, and cannot be compared "
            f"with the checkpoint's tower ({sizes}); leave the flag out, the checkpoint brings its tower"
        )
    for key in ("model_name", *TOWER_KEYS):
        if key in wanted and wanted[key] != has.get(key):
            raise BTCChatError(
                f"--vision_tower is {asked} ({key} {wanted[key]}), the checkpoint's vision_tower/config.json says "
                f"{key} {has.get(key)}; leave the flag out, the checkpoint brings its tower"
            )
