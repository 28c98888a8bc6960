"""Open a checkpoint in any layout: find its parts and how they fit together. No weights are read."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from btcchat.change_encoder import CHG_TYPES, canonical, check_options, encoder_defaults
from btcchat.checkpoint import adapter, layout, llava_next
from btcchat.checkpoint.config import PARTS, BTCChatConfig, read_config
from btcchat.checkpoint.hub import resolve
from btcchat.checkpoint.layout import CheckpointSource
from btcchat.checkpoint.schema import ChangeEncoderConfig, ProjectorConfig, RootConfig
from btcchat.checkpoint.weights import Weights
from btcchat.errors import BTCChatError
from btcchat.language_model import is_family, read_settings
from btcchat.language_model.sizes import check_sizes as check_llm_sizes
from btcchat.limits.schema import check
from btcchat.multimodal_encoder import check_sizes
from btcchat.multimodal_projector import projector_name

logger = logging.getLogger(__name__)

DEFAULT_HEADS = 8  # the published evaluator's default; published folders do not record theirs


@dataclass(frozen=True)
class EncoderChoice:
    """The caller's choice of change encoder.

    fresh: start a new one of ``chg_type`` with ``options``; the weights of the folder's own are not read. Without
    ``chg_type`` it is of the folder's kind, or attentive if the folder has none. from_origin: the same, for a folder
    that must have none (an original VILA-1.5 checkpoint). Otherwise the options fill in what a published folder does
    not record, and must agree with a folder that does.
    """

    fresh: bool = False
    from_origin: bool = False
    chg_type: str | None = None
    options: Mapping[str, Any] | None = None

    @property
    def starts(self) -> bool:
        """Whether to start a fresh change encoder."""
        return self.fresh or self.from_origin


@dataclass(frozen=True)
class ProjectorChoice:
    """The caller's choice of projector. fresh: start a new one of ``type`` (default: the folder's type)."""

    fresh: bool = False
    type: str | None = None


STORED_ENCODER = EncoderChoice()
STORED_PROJECTOR = ProjectorChoice()


def open_checkpoint(
    path: str | Path | None,
    *,
    base: str | Path | None = None,
    vision_tower: str | Path | None = None,
    change_encoder: EncoderChoice = STORED_ENCODER,
    mm_projector: ProjectorChoice = STORED_PROJECTOR,
    fields: dict[str, Any] | None = None,
) -> CheckpointSource:
    """A checkpoint folder, a hub id, or (None) the packaged model, with its whole config.

    base: for an adapter folder, where its base is now. vision_tower: for a LLaVA-NeXT folder, the tower to take sizes
    from, if not the one it names. fields: of BTCChatConfig, which override the checkpoint's.
    Raises BTCChatError for an unknown path, a missing or malformed file, or a wrong field.
    """
    folder = resolve(path)
    source = open_folder(folder, vision_tower, base)
    config = source.config
    check_llm_sizes(read_settings(config.llm), source.llm)
    for note in source.notes:
        logger.warning("%s: %s", folder, note)
    check(fields or {}, RootConfig, "from_pretrained")
    for name, value in (fields or {}).items():
        if not hasattr(config, name) or name in (*PARTS, "change_encoder"):
            raise BTCChatError(f"unknown option '{name}' of from_pretrained; see BTCChatConfig for the fields")
        setattr(config, name, value)
    if config.published and "image_aspect_ratio" in (fields or {}):  # an export keeps the change
        config.published |= {"image_aspect_ratio": config.image_aspect_ratio, "mm_patch_merge_type": "flat"}
    if not mm_projector.fresh:
        config.require_plugins(folder, "projector")
    config.change_encoder = cast(ChangeEncoderConfig, _change_encoder_config(source, folder, change_encoder))
    config.mm_projector = _projector_config(config, folder, mm_projector)
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
        raise BTCChatError(f"{folder} is not an adapter but has its own weights; leave out base {base}")
    if llava_next.recognise(folder):
        return llava_next.open_folder(folder, vision_tower)
    if vision_tower is not None:
        raise BTCChatError(f"{folder} has its own vision tower; leave vision_tower out")
    return layout.open_folder(folder)


def leaves_out_tower(path: str | Path | None) -> bool:
    """Whether a folder or hub id lacks the sizes of its vision tower, as published LLaVA-NeXT folders do."""
    return llava_next.recognise(resolve(path))


def is_language_model(path: str | Path | None) -> bool:
    """Whether a folder or hub id is only a language model, which `load.from_parts` joins with a vision tower."""
    folder = resolve(path)
    if (folder / "llm").is_dir() or not (folder / "config.json").is_file():
        return False
    root: RootConfig = read_config(folder / "config.json", RootConfig)
    return is_family(root.get("model_type"))


def _open_adapter(
    folder: Path, owner: adapter.Base, base: str | Path | None, vision_tower: str | Path | None
) -> CheckpointSource:
    """An adapter with its base: ``base`` if given, else the one it was trained on. The weights must be the same."""
    try:
        base_folder = resolve(base or owner.path)
    except BTCChatError:
        if base is not None:
            raise
        raise BTCChatError(
            f"{folder} is an adapter of {owner.path}, which was not found; name its folder with --base "
            "(Python: base=), or for training merge them (btcchat export)"
        ) from None
    if (base_folder / "config.json").is_file() and adapter.read_base(base_folder) is not None:
        raise BTCChatError(
            f"{folder} is an adapter of {base_folder}, which is an adapter itself; name the checkpoint that it was "
            "trained on with --base (Python: base=)"
        )
    if vision_tower is None and leaves_out_tower(base_folder):
        vision_tower = folder / "vision_tower"  # its config.json has the sizes that the base lacks
    source = open_folder(base_folder, vision_tower)
    adapter.check_base(folder, owner, base_folder, source)
    tower = source.vision_tower if "vision_tower" in owner.parts else Weights.of(folder / "vision_tower")
    config = BTCChatConfig.load(folder)
    check_sizes(config.vision_tower, tower, folder / "vision_tower/config.json", "copy the adapter folder again")
    return CheckpointSource(
        config,
        source.llm,
        tower,
        Weights.of(folder / "mm_projector"),
        llm_folder=source.llm_folder,
        tower_folder=folder / "vision_tower",
        notes=source.notes,
    )


def _change_encoder_config(source: CheckpointSource, folder: Path, choice: EncoderChoice) -> dict[str, Any]:
    """The config of the folder's change encoder, or of the fresh one to build."""
    stored = {} if source.mm_projector is None else source.mm_projector.places
    weights = [key.removeprefix("layers.change.") for key in stored if key.startswith("layers.change.")]
    name = CHG_TYPES.get(choice.chg_type or "", choice.chg_type)
    if choice.starts:
        source.config.change_threshold = None  # of the maps of the one that is replaced
        return _fresh_config(source, folder, choice, name, weights)
    source.config.require_plugins(folder, "change encoder")
    requested = dict(choice.options or {})
    config = _stored_config(source, folder, requested, weights)
    kind = config["change_encoder_type"]
    if name is not None and name != kind:
        raise BTCChatError(
            f"chg_type is {name}, but the checkpoint has {kind} ({folder}); leave it out, or start a fresh {name} with "
            "fresh_change_encoder (--fresh_change_encoder True)"
        )
    check_options(kind, requested)
    has = encoder_defaults(kind) | config
    if "cc_dropout" in requested:
        config["cc_dropout"] = requested.pop("cc_dropout")  # no weight depends on it
    for option, value in requested.items():
        if option not in has or has[option] != value:
            raise BTCChatError(
                f"{option} is {value}, but the checkpoint has {has.get(option, 'none')} ({folder}); leave it out, or "
                "start a fresh change encoder with fresh_change_encoder (--fresh_change_encoder True)"
            )
    return config


def _fresh_config(
    source: CheckpointSource, folder: Path, choice: EncoderChoice, name: str | None, weights: list[str]
) -> dict[str, Any]:
    """The config of a fresh change encoder ``name``. weights: names of the weights of the folder's own encoder."""
    if weights and not choice.fresh:
        raise BTCChatError(
            f"{folder} has a change encoder already, and from_origin is for a checkpoint without one; to replace it, "
            "use fresh_change_encoder (--fresh_change_encoder True); to keep it, drop from_origin"
        )
    options = dict(choice.options or {})
    config: dict[str, Any] = {"change_encoder_type": name or "attentive"}
    if name is None and choice.fresh:
        stored = _stored_config(source, folder, options, weights)
        config = config if stored["change_encoder_type"] == "concat" else stored
    check_options(config["change_encoder_type"], options)
    return config | options


def _stored_config(
    source: CheckpointSource, folder: Path, requested: dict[str, Any], weights: list[str]
) -> dict[str, Any]:
    """The config of the folder's change encoder. Options that it does not record are taken from ``requested``."""
    if source.config.change_encoder is not None:
        return canonical(source.config.change_encoder)
    if not weights:
        return {"change_encoder_type": "concat"}
    layers = {m.group(1) for key in weights if (m := re.match(r"selftrans\.(\d+)\.", key))}
    config = {"change_encoder_type": "attentive", "cc_n_layers": len(layers), "cc_dropout": 0.0}
    if "cc_head" not in requested:
        logger.warning("%s does not record its cc_head; assuming %d (set it with cc_head=)", folder, DEFAULT_HEADS)
    return config | {"cc_head": requested.pop("cc_head", DEFAULT_HEADS)}


def _projector_config(config: BTCChatConfig, folder: Path, choice: ProjectorChoice) -> ProjectorConfig:
    stored = projector_name(config.mm_projector)
    if choice.type is None or choice.type == stored:
        return config.mm_projector
    if not choice.fresh:
        raise BTCChatError(
            f"mm_projector_type is {choice.type}, but the checkpoint has {stored} ({folder}); leave it out, or start "
            f"a fresh {choice.type} with fresh_mm_projector (--fresh_mm_projector True)"
        )
    return {"mm_projector_type": choice.type}
