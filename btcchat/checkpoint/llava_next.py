"""The layout of published LLaVA-NeXT folders, including CCExpert's and LLaVA-OneVision's.

One set of weights holds all parts, and one config.json describes them, except for the sizes of the vision tower: these
are in the config.json of the tower that ``mm_vision_tower`` names.
"""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from btcchat.change_encoder import canonical, encoder_defaults
from btcchat.checkpoint.config import BTCChatConfig, check_supported, read_config, read_layers
from btcchat.checkpoint.hub import resolve
from btcchat.checkpoint.layout import CheckpointSource
from btcchat.checkpoint.schema import RootConfig, VisionTowerConfig
from btcchat.checkpoint.weights import Weights
from btcchat.compat.configs import BASE_FIELDS
from btcchat.errors import BTCChatError, choose
from btcchat.files import read_json
from btcchat.language_model.qwen2 import Qwen2Config
from btcchat.limits.schema import check
from btcchat.multimodal_encoder import check_sizes, siglip

logger = logging.getLogger(__name__)

# Architecture or model_type in config.json -> model_type of the language model. Either is enough: published OneVision
# folders have the model_type llava, which other models have too.
ARCHITECTURES = {"LlavaQwenForCausalLM": "qwen2", "LlavaQwenCCForCausalLM": "qwen2"}
MODEL_TYPES = {"llava_qwen": "qwen2", "llava_qwen_cc": "qwen2"}

# part of our layout -> {prefix of its keys in a published folder: prefix in our part's files}
PREFIXES = {
    "llm": {key: key for key in ("lm_head.", "model.embed_tokens.", "model.layers.", "model.norm.")},
    "vision_tower": {"model.vision_tower.vision_tower.": ""},
    "mm_projector": {
        "model.mm_projector.": "layers.single.",
        "model.vision_resampler.": "layers.change.",
        "model.mm_cc_projector.": "mm_cc_projector.",
        "model.image_newline": "image_newline",
    },
}

# Patterns (whole key in our mm_projector/) of weights that no code uses. image_newline ends the rows of OneVision's
# tiles, which are not supported.
UNUSED_KEYS = [r"mm_cc_projector\..*", r"image_newline"]

RESAMPLERS = {"none": "concat", "cc_expert": "difference_aware"}  # mm_resampler_type (null: none) -> change encoder
PROMPTS = {  # by the change encoder of a published folder: the question it was trained on, and how it shows a pair
    "difference_aware": {
        "caption_question": "What difference happened from Image1 to Image2?",
        "pair_prompt": "This is the Image1 <image>. This is the second Image2 <image>.\n",
    },
}
MORE_LLM_FIELDS = (  # of the language model, besides those that every version of transformers has in to_dict()
    "use_sliding_window", "tokenizer_model_max_length", "tokenizer_padding_side", "rope_theta", "rope_parameters",
)  # fmt: skip
MLP_DIM = 4608  # of the published change encoder, whatever its width, if cc_expert_args does not say
UNSTORED = (  # fields that a published folder cannot store
    "conv_version", "caption_question", "pair_prompt", "mm_vision_select_feature", "num_video_frames",
    "series_change_tokens", "video_change_tokens",
)  # fmt: skip


def recognise(folder: Path) -> bool:
    """Whether ``folder`` is in this layout. Raises BTCChatError if it is in neither layout."""
    if (folder / "llm").is_dir():
        return False
    root: RootConfig = read_config(folder / "config.json", RootConfig)
    if _language_model(root) is not None:
        return True
    names = ", ".join(map(str, _architectures(root))) or "none"
    raise BTCChatError(
        f"{folder} is not a model that btcchat reads (architectures {names}, model_type {root.get('model_type')}); "
        f"expected llm/, vision_tower/ and mm_projector/, or a LLaVA-NeXT folder ({', '.join(ARCHITECTURES)})"
    )


def _architectures(root: RootConfig) -> list[str]:
    names = root.get("architectures")
    return names if isinstance(names, list) else []


def _language_model(root: RootConfig) -> str | None:
    """model_type of the language model in a published folder; None if config.json is of another layout."""
    kinds = (ARCHITECTURES.get(name) for name in _architectures(root) if isinstance(name, str))
    return next(filter(None, kinds), MODEL_TYPES.get(str(root.get("model_type"))))


def open_folder(folder: Path, vision_tower: str | Path | None = None) -> CheckpointSource:
    """A published folder as if it were ours. vision_tower: its tower, if not the one that config.json names.

    Raises BTCChatError if the tower is not found or the folder needs an unsupported feature.
    """
    root: RootConfig = read_config(folder / "config.json", RootConfig)
    check_supported(root, folder)
    stored = Weights.of(folder)
    parts = {part: stored.rename(prefixes) for part, prefixes in PREFIXES.items()}
    known = {key for part in parts.values() for _, key in part.places.values()}
    if unknown := sorted(set(stored.places) - known):
        raise BTCChatError(f"{folder}: unknown weight '{unknown[0]}' ({len(unknown)} in all); no part uses it")
    tower = _tower_config(folder, root, vision_tower, parts["vision_tower"])
    try:
        # Some published configs give a vocabulary size that differs from the weights'.
        config = _config(root, parts["llm"].shape("model.embed_tokens.weight")[0], tower)
    except BTCChatError as error:
        raise BTCChatError(f"{folder / 'config.json'}: {error}") from None
    return CheckpointSource(
        config,
        llm=parts["llm"],
        vision_tower=parts["vision_tower"],
        mm_projector=parts["mm_projector"],
        llm_folder=folder,
        tower_folder=folder,
        notes=list(_notes(root)),
    )


def _tower_config(
    folder: Path, root: RootConfig, vision_tower: str | Path | None, weights: Weights
) -> VisionTowerConfig:
    name = str(vision_tower or root.get("mm_vision_tower") or "")
    if not name:
        raise BTCChatError(
            f"{folder / 'config.json'} names no mm_vision_tower; give it as vision_tower (--vision-tower)"
        )
    try:
        file = resolve(name, ["config.json"]) / "config.json"
        config = read_json(file)
    except BTCChatError as error:
        raise BTCChatError(
            f"{folder} takes its vision tower's sizes from '{name}', which could not be downloaded: {error}; give a "
            "folder with that tower's config.json as vision_tower (--vision-tower)"
        ) from None
    way_out = "give the tower that it was trained with as vision_tower (--vision-tower)"
    check(config, VisionTowerConfig, str(file), way_out)
    sizes = dict(config.get("vision_config", config))
    check(sizes, VisionTowerConfig, str(file), way_out)
    numbers = [int(m[1]) for name in weights.places if (m := re.search(r"\.layers\.(\d+)\.", name))]
    total = sizes.get("num_hidden_layers", siglip.DEFAULTS["num_hidden_layers"])
    if numbers and max(numbers) + 1 < total:  # layers above the selected one may be left out
        sizes["num_stored_layers"] = max(numbers) + 1
    check_sizes({"model_type": config.get("model_type"), **sizes}, weights, file, way_out)
    named = {"_name_or_path": root.get("mm_vision_tower") or name}
    return cast(VisionTowerConfig, {**siglip.DEFAULTS, "model_type": config.get("model_type"), **sizes, **named})


def _notes(root: RootConfig) -> Iterator[str]:
    aspect, merge = str(root.get("image_aspect_ratio") or ""), str(root.get("mm_patch_merge_type") or "")
    if aspect.startswith("anyres"):
        yield f"{aspect} is not supported; each image is squashed to one square, without tiles"
    elif merge.startswith("spatial"):
        yield f"mm_patch_merge_type {merge} is not supported; it is read as flat, without image_newline"
    if root.get("rope_scaling"):
        yield f"rope_scaling {json.dumps(root['rope_scaling'])} is ignored, as in the published code"


def _config(root: RootConfig, vocabulary: int, tower: VisionTowerConfig) -> BTCChatConfig:
    """Translate config.json of a published folder into our config."""
    encoder = choose("mm_resampler_type", str(root.get("mm_resampler_type") or "none"), RESAMPLERS)
    aspect = str(root.get("image_aspect_ratio") or "square")
    parts: dict[str, Any] = {
        "llm": _llm_config(root, vocabulary),
        "change_encoder": {"change_encoder_type": encoder, **_encoder_options(root, tower, encoder)},
    }
    return BTCChatConfig(
        vision_tower=tower,
        mm_projector={"mm_projector_type": root.get("mm_projector_type", "linear")},
        mm_vision_select_layer=read_layers(_layer(root)),
        image_aspect_ratio="square" if aspect.startswith("anyres") else aspect,
        published=root,
        **parts,
        **_assumed(encoder),
    )


def _layer(root: RootConfig) -> str | int | list[int]:
    layer = root.get("mm_vision_select_layer")
    return -2 if layer is None else layer


def _assumed(encoder: str) -> dict[str, Any]:
    """Settings that a published folder does not record."""
    return {
        "conv_version": "qwen_1_5",
        "mm_vision_select_feature": "cls_patch",  # its SigLIP tower keeps every token, whatever the config
        **PROMPTS.get(encoder, {}),
    }


def _llm_config(root: RootConfig, vocabulary: int) -> dict[str, Any]:
    names = {*BASE_FIELDS, *Qwen2Config().to_dict(), *MORE_LLM_FIELDS} - {"rope_scaling"}
    llm = {name: value for name, value in root.items() if name in names}
    kind = {"model_type": _language_model(root), "architectures": ["Qwen2ForCausalLM"]}
    return {**llm, **kind, "vocab_size": vocabulary}


def _encoder_options(root: RootConfig, tower: VisionTowerConfig, encoder: str) -> dict[str, Any]:
    if encoder == "concat":
        return {}
    args = root.get("cc_expert_args") or {}
    try:
        options: dict[str, Any] = dict(json.loads(args) if isinstance(args, str) else args)
    except (json.JSONDecodeError, TypeError, ValueError):
        raise BTCChatError(f"cc_expert_args is {args!r}, expected a JSON object; download the folder again") from None
    options["mlp_dim"] = options.get("mlp_dim") or MLP_DIM
    width = options.pop("embedding_dim", tower["hidden_size"])
    if width != tower["hidden_size"]:
        raise BTCChatError(
            f"cc_expert_args: embedding_dim is {width}, but the vision tower's hidden_size is {tower['hidden_size']}; "
            "name the tower that the model was trained with"
        )
    return options


def published_config(config: BTCChatConfig, vision_tower: str | None = None) -> dict[str, object]:
    """The config.json that describes ``config`` in a published folder; an imported one is updated where it differs.

    vision_tower: its mm_vision_tower, if not the one the model was imported with. Raises BTCChatError for a part that
    this layout cannot store, and warns of such a field.
    """
    root = _published(config, vision_tower)
    encoder = config.known_change_encoder["change_encoder_type"]
    assumed = BTCChatConfig(**_assumed(encoder))
    for name in UNSTORED:
        has, read = getattr(config, name), getattr(assumed, name)
        if has != read:
            logger.warning(
                "%s %r cannot be stored in a LLaVA-NeXT folder; it loads as %r (set it with from_pretrained(%s=))",
                *(name, has, read, name),
            )
    if not config.published:
        return root
    imported = _published(_config(config.published, config.llm["vocab_size"], config.vision_tower), vision_tower=None)
    changed = {name: value for name, value in root.items() if value != imported.get(name)}
    return config.published | changed


def _published(config: BTCChatConfig, vision_tower: str | None) -> dict[str, object]:
    stored = canonical(config.known_change_encoder)
    options = encoder_defaults(stored["change_encoder_type"]) | stored
    resampler = _inverse("change encoder", RESAMPLERS, options.pop("change_encoder_type"))
    _inverse("language model", MODEL_TYPES, config.llm.get("model_type"))
    _inverse("vision tower", {"siglip": "siglip"}, config.vision_tower.get("vision_tower_type", "siglip"))
    width = config.vision_tower["hidden_size"]
    kind, architecture = "llava_qwen_cc", "LlavaQwenCCForCausalLM"
    encoder: RootConfig = {"mm_resampler_type": resampler}
    parts = ["mm_mlp_adapter", "mm_vision_resampler", "mm_language_model", "mm_vision_tower"]
    if resampler == "none":
        kind, architecture = "llava_qwen", "LlavaQwenForCausalLM"
        encoder = {"mm_resampler_type": None}
        parts.remove("mm_vision_resampler")
    else:
        mlp = options.get("mlp_dim") or 4 * width  # as built; the published code has another default
        encoder["cc_expert_args"] = options | {"embedding_dim": width, "mlp_dim": mlp}
    projector = config.mm_projector["mm_projector_type"]
    if not re.fullmatch(r"linear|identity|mlp\d+x_gelu", projector):
        raise BTCChatError(f"a LLaVA-NeXT folder has no projector '{projector}'; it supports linear and mlpNx_gelu")
    name = vision_tower or config.vision_tower.get("_name_or_path")
    if not name:
        raise BTCChatError(
            "a LLaVA-NeXT folder names the tower that its code builds, and this model does not; give it as "
            "vision_tower (--vision-tower), e.g. google/siglip-so400m-patch14-384"
        )
    layers = config.mm_vision_select_layer
    return config.llm | {
        "model_type": kind,
        "architectures": [architecture],
        "image_aspect_ratio": config.image_aspect_ratio,
        "mm_hidden_size": width,
        "mm_patch_merge_type": "flat",
        "mm_projector_type": projector,
        "mm_tunable_parts": ",".join(parts),
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",  # as published; the tower's code ignores it
        "mm_vision_select_layer": json.dumps(layers) if isinstance(layers, list) else layers,
        "mm_vision_tower": str(name),
        "use_mm_proj": True,
        **encoder,
    }


def _inverse(kind: str, table: dict[str, str], ours: str | None) -> str:
    """The published name of one of our parts."""
    for theirs, name in table.items():
        if name == ours:
            return theirs
    known = ", ".join(sorted(set(table.values())))
    raise BTCChatError(f"a LLaVA-NeXT folder has no {kind} '{ours}'; it supports {known}; keep btcchat's layout")
