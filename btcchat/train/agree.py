"""Check the training flags whose values the checkpoint already fixes: they must agree with it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from btcchat.change_encoder import encoder_defaults
from btcchat.checkpoint.config import BTCChatConfig, read_config
from btcchat.checkpoint.schema import VisionTowerConfig
from btcchat.errors import BTCChatError, number
from btcchat.multimodal_projector import projector_name
from btcchat.train.arguments import ModelArguments
from btcchat.train.encoder_flags import encoder_name

TOWER_KEYS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "patch_size", "image_size"
)  # fmt: skip
# flag -> the flag that replaces its part by a fresh one, for which any value is allowed
REPLACED_WITH = {"mm_projector": "fresh_mm_projector", "mm_vision_select_layer": "fresh_change_encoder"}
# Widths and depths of google/siglip-* and google/siglip2-*, as on the hub.
SIGLIP = {
    "base": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "large": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
    "so400m": {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16},
    "giant-opt": {"hidden_size": 1536, "intermediate_size": 6144, "num_hidden_layers": 40, "num_attention_heads": 16},
}


def check_agreement(flags: ModelArguments, config: BTCChatConfig) -> None:
    """Raise BTCChatError, naming both values, if a flag contradicts the checkpoint's config."""
    stored_values = {
        "mm_vision_select_layer": config.mm_vision_select_layer,
        "mm_vision_select_feature": config.mm_vision_select_feature,
        "mm_projector": projector_name(config.mm_projector),
        "mm_use_im_start_end": False,  # BTCChatConfig.load rejects a checkpoint with True
        "mm_use_im_patch_token": False,
    }
    for name, stored in stored_values.items():
        value = getattr(flags, name)
        if value is not None and value != stored:
            replace = REPLACED_WITH.get(name)
            or_replace = f", or add --{replace} True" if replace else ""
            raise BTCChatError(
                f"--{name} is {value}, but the checkpoint's config.json says {stored}; leave the flag out{or_replace}"
            )
    encoder = config.change_encoder  # known: the model has been built from it
    if flags.chg and encoder is not None and encoder["change_encoder_type"] == "concat":
        raise BTCChatError("--chg True, but the checkpoint's change encoder is concat; name one with --chg_type")
    if flags.vision_tower is not None:
        _check_tower(flags.vision_tower, config.vision_tower)


def check_encoder(flags: ModelArguments, config: BTCChatConfig) -> None:
    """Raise BTCChatError if a flag names another change encoder, or another option, than the model of a resumed run."""
    stored = config.known_change_encoder
    kind = stored["change_encoder_type"]
    has = {"--chg_type": kind} | encoder_defaults(kind) | stored
    requested = {"--chg_type": encoder_name(vars(flags)) or kind} | flags.encoder_options
    for name, value in requested.items():
        if has.get(name) != value:
            raise BTCChatError(
                f"{name} is {number(value)}, but the run to resume has {number(has.get(name, 'none'))}; a resumed run "
                "keeps its change encoder: repeat the run's flags, or give another --output_dir"
            )


def _check_tower(name: str, stored: Mapping[str, Any]) -> None:
    """Compare the sizes in a hub id or in a folder's config.json; a timm or open_clip tower is compared by name."""
    expected: Mapping[str, Any]
    if "model_name" in stored:
        expected = {"model_name": name}
    elif match := re.fullmatch(rf"(?:google/)?siglip2?-({'|'.join(SIGLIP)})-patch(\d+)-(\d+)", name):
        expected = SIGLIP[match[1]] | {"patch_size": int(match[2]), "image_size": int(match[3])}
    elif Path(name).is_dir():
        config = read_config(Path(name) / "config.json", VisionTowerConfig)
        expected = config.get("vision_config", config)
    else:
        sizes = ", ".join(f"{key} {stored[key]}" for key in TOWER_KEYS if key in stored)
        raise BTCChatError(
            f"--vision_tower {name} is neither a folder here nor google/siglip-SIZE-patchP-R (or siglip2), and cannot "
            f"be compared with the checkpoint's tower ({sizes}); leave the flag out: the checkpoint includes its tower"
        )
    for key in ("model_name", *TOWER_KEYS):
        if key in expected and expected[key] != stored.get(key):
            raise BTCChatError(
                f"--vision_tower is {name} ({key} {expected[key]}), but the checkpoint's vision_tower/config.json says "
                f"{key} {stored.get(key)}; leave the flag out: the checkpoint includes its tower"
            )
