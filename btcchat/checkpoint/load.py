"""Load whole models: from a checkpoint folder (see config.py), or from separate folders of their parts."""

import logging
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn

from btcchat.change_encoder import UNUSED_KEYS as UNUSED_CHANGE_KEYS
from btcchat.change_encoder import canonical
from btcchat.checkpoint import adapter, layout, llava_next, quantize
from btcchat.checkpoint.config import BTCChatConfig, read_config
from btcchat.checkpoint.extras import check_extras
from btcchat.checkpoint.folder import (
    STORED_ENCODER,
    STORED_PROJECTOR,
    EncoderChoice,
    ProjectorChoice,
    open_checkpoint,
)
from btcchat.checkpoint.hub import resolve
from btcchat.checkpoint.layout import CheckpointSource
from btcchat.checkpoint.parts import (
    change_encoder_of,
    check_parts,
    check_vision_tower,
    layout_of,
    projector_of,
    read_image_processor,
    read_tokenizer,
    record_defaults,
    resize_tower,
    token_layout,
    vision_tower_of,
)
from btcchat.checkpoint.schema import ChangeEncoderConfig, LLMConfig, VisionTowerConfig
from btcchat.checkpoint.weights import Weights, load_strict, match_strict
from btcchat.compat.torch_floor import has_fast_bfloat16
from btcchat.errors import BTCChatError, choose
from btcchat.language_model import UNUSED_KEYS as UNUSED_LLM_KEYS
from btcchat.language_model import build_language_model, pick_attention
from btcchat.layers.empty_weights import NoInitialValues, init_empty_weights
from btcchat.media.frames import PLACEHOLDER
from btcchat.model import BTCChatModel
from btcchat.multimodal_encoder import UNUSED_KEYS as UNUSED_VISION_KEYS
from btcchat.multimodal_encoder.protocol import VisionTowerModule
from btcchat.processor import Processor

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SMALL = 1 << 30  # bytes: below this a model on the CPU runs in float32

Model = TypeVar("Model", bound=BTCChatModel)


@dataclass(frozen=True)
class Placement:
    """Where and how a model runs. device: auto or a torch device; dtype: auto, a name in DTYPES or a torch dtype.

    attention: of the language model, as in transformers; None picks the fastest. quantize: int8, int4 or None.
    """

    device: str = "auto"
    dtype: str | torch.dtype = "auto"
    attention: str | None = None
    quantize: str | None = None


def load(
    cls: type[Model],
    path: str | Path | None,
    placement: Placement,
    *,
    base: str | Path | None,
    vision_tower: str | Path | None,
    fields: dict[str, Any],
    change_encoder: EncoderChoice = STORED_ENCODER,
    mm_projector: ProjectorChoice = STORED_PROJECTOR,
) -> Model:
    """The model of `open_checkpoint`, in ``eval()``. Raises BTCChatError if weights do not fit the config."""
    check_extras(path)
    device = pick_device(placement.device)
    if placement.quantize is not None:
        quantize.check_available(placement.quantize, device)
    source = open_checkpoint(
        path,
        base=base,
        vision_tower=vision_tower,
        change_encoder=change_encoder,
        mm_projector=mm_projector,
        fields=fields,
    )
    fresh = {"change": change_encoder.starts, "single": mm_projector.fresh}
    if any(fresh.values()):
        _fit_pair_prompt(source.config, given="pair_prompt" in fields)
    if placement.quantize is not None:
        placement = _before_quantising(placement, device, source)
    model = _build(cls, source, placement, fresh=[layer for layer, starts in fresh.items() if starts])
    model.processor.check()
    folder = resolve(path)
    model.base = adapter.read_base(folder)
    if model.base is not None:
        adapter.read(model.llm, folder / "llm")
    model.requires_grad_(True).eval()
    if placement.quantize is not None:
        quantize.quantize(model, placement.quantize, device)
    return model


def _before_quantising(placement: Placement, device: str, source: CheckpointSource) -> Placement:
    """Where the plain weights are. A GPU gets the quantised ones only, so that a smaller GPU is enough."""
    quantize.check_stored(source.config.quantization, placement.quantize, device, source.llm_folder.parent)
    dtype = pick_dtype(placement.dtype, device, source.llm_folder)
    return replace(placement, device="cpu", dtype=dtype, attention=placement.attention or pick_attention(device, dtype))


def from_parts(
    cls: type[Model],
    placement: Placement,
    *,
    vision_tower: str | Path,
    llm: str | Path,
    mm_projector: str,
    change_encoder: dict[str, Any],
    fields: dict[str, Any],
) -> Model:
    """A published vision tower and language model (folders or hub ids), joined by fresh parts."""
    tower_folder, llm_folder = resolve(vision_tower), resolve(llm)
    config = BTCChatConfig(
        llm=read_config(llm_folder / "config.json", LLMConfig),
        vision_tower=read_config(tower_folder / "config.json", VisionTowerConfig),
        mm_projector={"mm_projector_type": mm_projector},
        change_encoder=cast(ChangeEncoderConfig, canonical(change_encoder)),
        **fields,
    )
    model = _build(cls, layout.open_parts(config, llm_folder, tower_folder), placement)
    config.describe_tower(model.vision_tower)  # its sizes, without the text half of a SigLIP
    return model


def _fit_pair_prompt(config: BTCChatConfig, *, given: bool) -> None:
    """Leave out the checkpoint's pair_prompt if it does not fit the fresh parts, which are built without weights.

    given: the caller passed it, and should see the error instead. Raises BTCChatError for parts that do not fit each
    other, before any weight is read.
    """
    segments = token_layout(config)[0].num_segments("pair", 2)
    if config.pair_prompt and not given and config.pair_prompt.count(PLACEHOLDER) != segments:
        logger.warning(
            "the checkpoint's pair_prompt %r is left out: with the fresh change encoder it would need %d %s",
            *(config.pair_prompt, segments, PLACEHOLDER),
        )
        config.pair_prompt = ""


def _build(cls: type[Model], source: CheckpointSource, placement: Placement, *, fresh: Collection[str] = ()) -> Model:
    """The model that ``source`` describes, with its weights.

    fresh: of "change" (the change encoder) and "single" (the projector), the parts to initialise; both are if the
    source has no weights for them.
    """
    config = source.config
    device = pick_device(placement.device)
    dtype = pick_dtype(placement.dtype, device, source.llm_folder)
    attention = placement.attention or pick_attention(device, dtype)
    quantize.check_stored(config.quantization, placement.quantize, device, source.llm_folder.parent)
    with init_empty_weights():
        llm = build_language_model(config.llm, attn_implementation=attention)
        tower = vision_tower_of(config)
    quantize.make_room(config.quantization, llm, tower)
    tied = {"lm_head.weight": "model.embed_tokens.weight"} if llm.config.tie_word_embeddings else None
    load_strict(llm, source.llm, unused=UNUSED_LLM_KEYS, tied=tied, device=device, dtype=dtype)
    llm.tie_weights()
    load_strict(tower, source.vision_tower, unused=UNUSED_VISION_KEYS, device=device, dtype=dtype)
    resize_tower(tower, config)
    if source.mm_projector is not None:  # compare their sizes with the weights' before they take memory
        _load_layers(_empty_layers(config, tower, fresh), source.mm_projector, match_strict)
    change_encoder, projector = change_encoder_of(config, tower), projector_of(config, tower)
    check_parts(config, tower, change_encoder, projector, device)
    if source.mm_projector is not None:
        layers = {"single": projector, "change": change_encoder}
        stored = {name: layer for name, layer in layers.items() if name not in fresh}
        replaced = _load_layers(stored, source.mm_projector, partial(load_strict, device=device, dtype=dtype))
        if replaced:
            folder = source.mm_projector.folder
            logger.info("%s: %d weights of replaced parts are not read (%s ...)", folder, len(replaced), replaced[0])
    config.record_plugins()
    record_defaults(config)
    model = cls(
        vision_tower=tower,
        change_encoder=change_encoder,
        mm_projector=projector,
        llm=llm,
        processor=Processor(
            config,
            read_tokenizer(source),
            read_image_processor(source, tower),
            layout_of(config, tower, change_encoder, projector),
        ),
    )
    model.to(device=device, dtype=dtype)
    check_vision_tower(config, model.vision_tower)
    _convolve_like_products()
    return model.eval()


def _convolve_like_products() -> None:
    """Let a GPU convolve in TF32 only if it also multiplies in it; by torch's defaults it does one, not the other."""
    with suppress(RuntimeError):  # the caller uses torch's newer settings, which cannot be mixed with these
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32


def _empty_layers(config: BTCChatConfig, tower: VisionTowerModule, fresh: Collection[str]) -> dict[str, nn.Module]:
    """The layers that are not ``fresh``, without memory; a layer whose constructor needs values is left out."""
    layers: dict[str, nn.Module] = {}
    for name, build in {"single": projector_of, "change": change_encoder_of}.items():
        if name not in fresh:
            with torch.device("meta"), NoInitialValues(), suppress(BTCChatError):
                layers[name] = build(config, tower)
    return layers


def _load_layers(layers: dict[str, nn.Module], weights: Weights, load: Callable[..., object]) -> list[str]:
    """``load`` (`load_strict`, or `match_strict` to compare only) the weights of mm_projector/ into ``layers``.

    ``single`` is the projector and ``change`` the change encoder; the weights of one that is not among ``layers`` are
    not read, and their keys are returned. UniRS names the projector layers.single.*, original VILA-1.5 layers.*.
    """
    single = "layers.single." if any(key.startswith("layers.single.") for key in weights.places) else "layers."
    prefixes = {"layers.change.": "change", single: "single"}  # in this order: "layers." matches both
    owner = {key: next((prefixes[p] for p in prefixes if key.startswith(p)), None) for key in weights.places}
    replaced = [key for key, layer in owner.items() if layer is not None and layer not in layers]
    kept = {key: place for key, place in weights.places.items() if key not in replaced}
    load(
        nn.ModuleDict(layers),
        Weights(weights.folder, kept, weights.prefixes),
        prefixes={old: f"{new}." for old, new in prefixes.items()},
        unused=[*llava_next.UNUSED_KEYS, *(r"layers\.change\." + pattern for pattern in UNUSED_CHANGE_KEYS)],
    )
    return replaced


def pick_device(device: str) -> str:
    """auto -> cuda, mps or cpu; a device that is not available is an error."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, colon, number = str(device).partition(":")
    choose("device", kind, dict.fromkeys(("cpu", "cuda", "mps", "meta")))
    if colon and not re.fullmatch(r"\d{1,3}", number, re.ASCII):
        raise BTCChatError(f"device is {device}, expected a kind and a number such as {kind}:0")
    missing = (kind == "cuda" and not torch.cuda.is_available()) or (
        kind == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise BTCChatError(f"device {device} was requested, but PyTorch finds none here; use --device cpu or auto")
    if kind == "cuda" and colon and int(number) >= (gpus := torch.cuda.device_count()):
        raise BTCChatError(
            f"device {device} was requested, but the GPUs here are cuda:0 to cuda:{gpus - 1}; use one of them"
        )
    return str(device)


def pick_dtype(dtype: str | torch.dtype, device: str, llm_folder: Path) -> torch.dtype:
    """auto: the stored dtype; on a CPU float32 if the model is small or the CPU has no instructions for it."""
    if isinstance(dtype, torch.dtype):
        if not dtype.is_floating_point:
            raise BTCChatError(f"dtype is {dtype}, expected one of {', '.join(DTYPES)}")
        return dtype
    if dtype != "auto":
        return choose("dtype", dtype, DTYPES)
    stored = DTYPES.get(stored_dtype(llm_folder), torch.float32)
    if device != "cpu":
        return stored
    size = sum(file.stat().st_size for file in llm_folder.glob("*.safetensors"))
    fast = stored == torch.bfloat16 and has_fast_bfloat16()
    return stored if fast and size > SMALL else torch.float32


def stored_dtype(llm_folder: Path) -> str:
    """The dtype of the weights in config.json: torch_dtype, or dtype in newer transformers."""
    config: LLMConfig = read_config(llm_folder / "config.json", LLMConfig)
    return str(config.get("torch_dtype") or config.get("dtype") or "float32")
