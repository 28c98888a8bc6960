"""The facts of a checkpoint (see facts.py), read from its config."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from btcchat.change_encoder import canonical, encoder_defaults
from btcchat.checkpoint.config import BTCChatConfig
from btcchat.checkpoint.facts import ModelParts, Prompts
from btcchat.checkpoint.folder import EncoderChoice, open_checkpoint
from btcchat.checkpoint.parts import token_layout
from btcchat.multimodal_encoder import MODEL_TYPES
from btcchat.multimodal_projector import projector_defaults, projector_name


def describe_checkpoint(
    path: str | Path | None, *, vision_tower: str | Path | None = None, encoder_options: dict[str, Any] | None = None
) -> tuple[ModelParts, Prompts]:
    """The facts of a checkpoint folder, a hub id or (None) the packaged model; no weights are read.

    vision_tower, encoder_options: as in `BTCChat.from_pretrained`. Warnings are left to it, as it is expected to load
    the same checkpoint.
    """
    with _quiet("btcchat.checkpoint"):
        choice = EncoderChoice(options=encoder_options)
        config = open_checkpoint(path, vision_tower=vision_tower, change_encoder=choice).config
    return describe(config), prompts_of(config)


def describe(config: BTCChatConfig) -> ModelParts:
    layout, tower = token_layout(config)
    encoder = canonical(config.known_change_encoder)
    name = encoder.pop("change_encoder_type")
    projector = projector_defaults(config.mm_projector) | {**config.mm_projector}
    projector.pop("mm_projector_type", None)
    stored, llm = config.vision_tower, config.llm
    kind = str(stored.get("vision_tower_type") or stored.get("model_type"))
    return {
        "change_encoder": {
            "type": name,
            "options": encoder_defaults(name) | encoder,
            "segments": layout.change_segments,
            "tokens_per_pair": layout.change_segments * layout.change_tokens,
        },
        "vision_tower": {
            "type": MODEL_TYPES.get(kind, kind),
            "name": stored.get("model_name") or stored.get("_name_or_path") or None,
            "resolution": tower.resolution,
            "layers": stored.get("vision_config", stored).get("num_hidden_layers"),
            "width": tower.hidden_size,
            "select_layers": config.select_layers,
        },
        "mm_projector": {"type": projector_name(config.mm_projector), "options": projector},
        "llm": {
            "type": str(llm.get("model_type")),
            "name": llm.get("_name_or_path") or None,
            "layers": llm.get("num_hidden_layers"),
            "width": llm["hidden_size"],
        },
    }


def prompts_of(config: BTCChatConfig) -> Prompts:
    return {
        "conv_version": config.conv_version,
        "caption_question": config.caption_question,
        "pair_prompt": config.pair_prompt,
    }


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Silence the warnings of one of our packages."""
    package = logging.getLogger(name)
    before = package.level
    package.setLevel(logging.ERROR)
    try:
        yield
    finally:
        package.setLevel(before)
