"""Open a checkpoint, in whatever layout: its parts, and how they are put together. No weights are read."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from btcchat.change_encoder import CHG_TYPES, canonical, encoder_defaults
from btcchat.checkpoint import adapter, layout, llava_next
from btcchat.checkpoint.config import PARTS, BTCChatConfig
from btcchat.checkpoint.hub import resolve
from btcchat.checkpoint.layout import CheckpointSource
from btcchat.checkpoint.schema import ChangeEncoderConfig
from btcchat.checkpoint.weights import Weights
from btcchat.errors import BTCChatError

logger = logging.getLogger(__name__)

DEFAULT_HEADS = 8  # the published evaluator's default; no published folder says its own


@dataclass(frozen=True)
class EncoderChoice:
    """What a caller says of the change encoder.

    fresh: the folder has none (an original VILA-1.5 checkpoint), and one of ``chg_type`` starts with ``options``.
    Otherwise the options are what a published folder does not say, and must agree with one that does.
    """

    fresh: bool = False
    chg_type: str | None = None
    options: dict[str, Any] | None = None


def open_checkpoint(
    path: str | Path | None,
    *,
    base: str | Path | None = None,
    vision_tower: str | Path | None = None,
    change_encoder: EncoderChoice = EncoderChoice(),
    fields: dict[str, Any] | None = None,
) -> CheckpointSource:
    """A checkpoint folder, a hub id, or (None) the packaged model, with its whole config.

    base: for an adapter folder, where its base is now. vision_tower: for a LLaVA-NeXT folder, the tower whose sizes it
    leaves out, if not the one it names. fields: of BTCChatConfig that replace what the checkpoint says.
    Raises BTCChatError for an unknown path, a missing or malformed file, or a wrong field.
    """
    folder = resolve(path)
    source = open_folder(folder, vision_tower, base)
    config = source.config
    for note in source.notes:
        logger.warning("%s: %s", folder, note)
    for name, value in (fields or {}).items():
        if not hasattr(config, name) or name in (*PARTS, "change_encoder"):
            raise BTCChatError(f"unknown option '{name}' of from_pretrained; see BTCChatConfig for the fields")
        setattr(config, name, value)
    if config.published and "image_aspect_ratio" in (fields or {}):  # from here on, of an export too
        config.published |= {"image_aspect_ratio": config.image_aspect_ratio, "mm_patch_merge_type": "flat"}
    config.require_plugins(folder, "projector")
    config.change_encoder = cast(ChangeEncoderConfig, _change_encoder_config(source, folder, change_encoder))
    config.check()
    return source


def open_folder(
    folder: Path, vision_tower: str | Path | None = None, base: str | Path | None = None
) -> CheckpointSource:
    """A checkpoint folder in either layout, or an adapter folder with its base."""
    owner = adapter.read_base(folder)
    if owner is not None:
        return _open_adapter(folder, owner, base, vision_tower)
    if base is not None:
        raise BTCChatError(f"{folder} is no adapter, it has its own weights; leave out base {base}")
    if llava_next.recognise(folder):
        return llava_next.open_folder(folder, vision_tower)
    if vision_tower is not None:
        raise BTCChatError(f"{folder} holds its own vision tower; leave vision_tower out")
    return layout.open_folder(folder)


def leaves_out_tower(path: str | Path | None) -> bool:
    """Whether the sizes of the vision tower are not in the folder or hub id: a published LLaVA-NeXT folder."""
    return llava_next.recognise(resolve(path))


def _open_adapter(
    folder: Path, owner: adapter.Base, base: str | Path | None, vision_tower: str | Path | None
) -> CheckpointSource:
    """The base is at ``base`` if given, else where it was in training; it must have the weights it had then."""
    try:
        base_folder = resolve(base or owner.path)
    except BTCChatError:
        if base is not None:
            raise
        raise BTCChatError(
            f"{folder} is an adapter of {owner.path}, which is not there; name its folder with --base (Python: base=)"
        ) from None
    if vision_tower is None and leaves_out_tower(base_folder):
        vision_tower = folder / "vision_tower"  # whose config.json says what the base leaves out
    source = open_folder(base_folder, vision_tower)
    adapter.check_base(folder, owner, base_folder, source)
    tower = source.vision_tower if "vision_tower" in owner.parts else Weights.of(folder / "vision_tower")
    return CheckpointSource(
        BTCChatConfig.load(folder),
        source.llm,
        tower,
        Weights.of(folder / "mm_projector"),
        llm_folder=source.llm_folder,
        tower_folder=folder / "vision_tower",
        notes=source.notes,
    )


def _change_encoder_config(source: CheckpointSource, folder: Path, choice: EncoderChoice) -> dict[str, Any]:
    """Which change encoder the folder holds, or, where it is to be fresh, which one to make."""
    stored = {} if source.mm_projector is None else source.mm_projector.places
    change = [key.removeprefix("layers.change.") for key in stored if key.startswith("layers.change.")]
    requested = dict(choice.options or {})
    name = CHG_TYPES.get(choice.chg_type or "", choice.chg_type)
    if choice.fresh:
        if change:
            raise BTCChatError(
                f"{folder} has a change encoder already, and from_origin starts a fresh one; drop from_origin"
            )
        return {"change_encoder_type": name or "attentive", **requested}
    source.config.require_plugins(folder, "change encoder")
    config: dict[str, Any]
    if source.config.change_encoder is not None:
        config = {**source.config.change_encoder}
    elif not change:
        config = {"change_encoder_type": "concat"}
    else:
        layers = {m.group(1) for key in change if (m := re.match(r"selftrans\.(\d+)\.", key))}
        config = {"change_encoder_type": "attentive", "cc_n_layers": len(layers), "cc_dropout": 0.0}
        if "cc_head" not in requested:
            logger.warning("%s does not say its cc_head; %d is assumed (cc_head= sets it)", folder, DEFAULT_HEADS)
        config["cc_head"] = requested.pop("cc_head", DEFAULT_HEADS)
    config = canonical(config)
    if name is not None and name != config["change_encoder_type"]:
        raise BTCChatError(f"chg_type is {name}, the checkpoint has {config['change_encoder_type']} ({folder})")
    has = encoder_defaults(config["change_encoder_type"]) | config
    if "cc_dropout" in requested and "cc_dropout" in has:
        config["cc_dropout"] = requested.pop("cc_dropout")  # no weight depends on it
    for option, value in requested.items():
        if option not in has:
            known = ", ".join(sorted(has.keys() - {"change_encoder_type"})) or "none"
            raise BTCChatError(
                f"unknown option '{option}' of change encoder '{config['change_encoder_type']}'; it has {known}"
            )
        if has[option] != value:
            raise BTCChatError(
                f"{option} is {value}, the checkpoint has {has[option]} ({folder}); leave it out, or start a fresh "
                "change encoder from a checkpoint without one (from_origin)"
            )
    return config
