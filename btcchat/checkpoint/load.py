"""Load and save whole models: a checkpoint folder (see config.py) <-> BTCChat."""

import logging
import re
import shutil
import tempfile
from pathlib import Path

import torch
from accelerate import init_empty_weights
from safetensors.torch import save_file
from torch import nn

from btcchat.change_encoder import CHG_TYPES, build_change_encoder, canonical, encoder_defaults
from btcchat.change_encoder import UNUSED_KEYS as UNUSED_CHANGE_KEYS
from btcchat.checkpoint import adapter, layout, llava_next
from btcchat.checkpoint.config import PARTS, BTCChatConfig, read_config
from btcchat.checkpoint.hub import resolve
from btcchat.checkpoint.layout import Source
from btcchat.checkpoint.weights import Weights, load_strict
from btcchat.errors import BTCChatError, choose
from btcchat.files import write_json
from btcchat.language_model import UNUSED_KEYS as UNUSED_LLM_KEYS
from btcchat.language_model import build_language_model, load_tokenizer, pick_attention
from btcchat.multimodal_encoder import UNUSED_KEYS as UNUSED_VISION_KEYS
from btcchat.multimodal_encoder import build_vision_tower
from btcchat.multimodal_encoder.preprocess import ImageProcessor
from btcchat.multimodal_projector import build_projector
from btcchat.prompt.templates import user_turn

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DEFAULT_HEADS = 8  # the published evaluator's default; no published folder says its own
SMALL = 1 << 30  # bytes: below this a model on the CPU is simply run in float32


def load(
    cls,
    path: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    base: str | Path | None = None,
    from_origin: bool = False,
    chg_type: str | None = None,
    cc_n_layers: int | None = None,
    cc_head: int | None = None,
    cc_dropout: float | None = None,
    cc_args: dict | None = None,
    vision_tower: str | Path | None = None,
    attn_implementation: str | None = None,
    **overrides,
):
    """Load a checkpoint folder, a hub id, or (None) the packaged tiny model; the model comes in ``eval()``.

    device: auto (cuda, else mps, else cpu) or a torch device. dtype: auto, float32, bfloat16, float16.
    base: for an adapter folder (see adapter.py), where its base is now. Default: where it was in training.
    from_origin: the folder has no change encoder (an original VILA-1.5 checkpoint); make a fresh one of ``chg_type``
    with ``cc_*`` (cc_args: further options of it). Without it, ``cc_*`` say what a published folder does not, and must
    agree with one that does.
    vision_tower: for a LLaVA-NeXT folder, the tower whose sizes it leaves out, if not the one it names.
    attn_implementation: of the language model, as in transformers; by default the fastest there is.
    overrides: other fields of :class:`BTCChatConfig` (num_video_frames, vision_resolution, ...).
    Raises BTCChatError for an unknown path, a missing or malformed file, or weights that do not fit the config.
    """
    folder = resolve(path)
    source = open_folder(folder, vision_tower, base)
    config = source.config
    for note in source.notes:
        logger.warning("%s: %s", folder, note)
    for name, value in overrides.items():
        if not hasattr(config, name) or name in (*PARTS, "change_encoder"):
            raise BTCChatError(f"unknown option '{name}' of from_pretrained; see BTCChatConfig for the fields")
        setattr(config, name, value)
    if config.published and "image_aspect_ratio" in overrides:  # from here on, of an export too
        config.published |= {"image_aspect_ratio": config.image_aspect_ratio, "mm_patch_merge_type": "flat"}
    asked = {"cc_n_layers": cc_n_layers, "cc_head": cc_head, "cc_dropout": cc_dropout}
    asked = {name: value for name, value in asked.items() if value is not None} | (cc_args or {})
    config.change_encoder = _change_encoder_config(source, folder, from_origin, chg_type, asked)
    config.__post_init__()
    model = _build(cls, source, device, dtype, fresh=from_origin, attention=attn_implementation)
    if "pair_prompt" in overrides:  # one that does not fit is told now, not at the first caption
        user_turn(config.caption_question, model.num_segments("pair", 2), shown=config.pair_prompt)
    model.base = adapter.read_base(folder)
    if model.base is not None:
        adapter.read(model.llm, folder / "llm")
    return model.requires_grad_(True).eval()


def open_folder(folder: Path, vision_tower: str | Path | None = None, base: str | Path | None = None) -> Source:
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


def _open_adapter(folder: Path, owner: adapter.Base, base: str | Path | None, vision_tower) -> Source:
    """The base is at ``base`` if given, else where it was in training; it must have the weights it had then."""
    try:
        found = resolve(base or owner.path)
    except BTCChatError:
        if base is not None:
            raise
        raise BTCChatError(
            f"{folder} is an adapter of {owner.path}, which is not there; name its folder with --base (Python: base=)"
        ) from None
    if vision_tower is None and leaves_out_tower(found):
        vision_tower = folder / "vision_tower"  # whose config.json says what the base leaves out
    source = open_folder(found, vision_tower)
    adapter.check_base(folder, owner, found, source)
    tower = source.vision_tower if "vision_tower" in owner.parts else Weights.of(folder / "vision_tower")
    return Source(
        BTCChatConfig.load(folder),
        source.llm,
        tower,
        Weights.of(folder / "mm_projector"),
        llm_folder=source.llm_folder,
        tower_folder=folder / "vision_tower",
        notes=source.notes,
    )


def from_parts(
    cls,
    *,
    vision_tower: str | Path,
    llm: str | Path,
    mm_projector: str = "mlp_downsample",
    change_encoder: dict | None = None,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    **fields,
):
    """Join a published vision tower and language model (folders or hub ids) by a fresh projector and change encoder.

    vision_tower: e.g. google/siglip-so400m-patch14-384. llm: any LLaMA-architecture causal LM, e.g. TinyLlama or
    SmolLM2. change_encoder: its config, by default ``attentive``. fields: of :class:`BTCChatConfig`.
    """
    tower_folder, llm_folder = resolve(vision_tower), resolve(llm)
    config = BTCChatConfig(
        llm=read_config(llm_folder / "config.json"),
        vision_tower=read_config(tower_folder / "config.json"),
        mm_projector={"mm_projector_type": mm_projector},
        change_encoder=canonical(change_encoder or {"change_encoder_type": "attentive"}),
        **fields,
    )
    return _build(cls, layout.open_parts(config, llm_folder, tower_folder), device, dtype, fresh=True)


def _build(cls, source: Source, device, dtype, *, fresh: bool, attention: str | None = None):
    """The model that ``source`` describes, with its weights.

    fresh: the change encoder starts anew, and so does the projector where the source has none.
    attention: of the language model; None chooses.
    """
    config = source.config
    device = pick_device(device)
    dtype = pick_dtype(dtype, device, source.llm_folder)
    placed = {"device": device, "dtype": dtype}
    with init_empty_weights(include_buffers=False):
        llm = build_language_model(config.llm, attn_implementation=attention or pick_attention(device, dtype))
        tower = build_vision_tower(
            config.vision_tower,
            select_layer=config.select_layers,
            select_feature=config.mm_vision_select_feature,
        )
    tied = {"lm_head.weight": "model.embed_tokens.weight"} if llm.config.tie_word_embeddings else None
    load_strict(llm, source.llm, unused=UNUSED_LLM_KEYS, tied=tied, **placed)
    llm.tie_weights()
    load_strict(tower, source.vision_tower, unused=UNUSED_VISION_KEYS, **placed)
    if config.vision_resolution not in (-1, tower.resolution):
        tower.resize(config.vision_resolution)

    change_encoder = build_change_encoder(
        config.change_encoder, hidden_size=tower.hidden_size, grid=tower.grid, num_depths=tower.num_depths
    )
    projector = build_projector(
        config.mm_projector,
        in_features=tower.hidden_size,
        out_features=llm.config.hidden_size,
    )
    projector.num_tokens(tower.num_tokens)  # raises now where the two do not fit
    if source.mm_projector is not None:
        _load_layers(projector, None if fresh else change_encoder, source.mm_projector, placed)
    model = cls(
        config,
        vision_tower=tower,
        change_encoder=change_encoder,
        mm_projector=projector,
        llm=llm,
        tokenizer=load_tokenizer(source.llm_folder),
        image_processor=_image_processor(tower, source.tower_folder, config),
    )
    return model.to(device=device, dtype=dtype).eval()


def _load_layers(projector: nn.Module, change_encoder: nn.Module | None, weights: Weights, placed: dict) -> None:
    """The weights of mm_projector/. UniRS names the projector layers.single.*, original VILA-1.5 layers.*."""
    single = "layers.single." if any(key.startswith("layers.single.") for key in weights.places) else "layers."
    unused = [*llava_next.UNUSED_KEYS, *(r"layers\.change\." + pattern for pattern in UNUSED_CHANGE_KEYS)]
    if change_encoder is None:
        load_strict(projector, weights, prefixes={single: ""}, unused=unused, **placed)
        return
    layers = nn.ModuleDict({"single": projector, "change": change_encoder})
    load_strict(layers, weights, prefixes={"layers.change.": "change.", single: "single."}, unused=unused, **placed)


def _image_processor(tower: nn.Module, folder: Path, config: BTCChatConfig) -> ImageProcessor:
    file = folder / "preprocessor_config.json"
    said = read_config(file) if file.exists() else tower.default_preprocessor_config()
    processor = ImageProcessor.from_config(said, aspect_ratio=config.image_aspect_ratio)
    if not isinstance(processor.size, int):
        processor.size = (tower.resolution, tower.resolution)
    return processor


def save(
    model,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    max_shard_size: str = "5GB",
    state_dict: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write ``model`` to ``folder``; a fault on the way leaves what was there before.

    Floating-point weights are written as they are, or cast to ``dtype``. A folder with a config.json is complete.
    state_dict: the weights, where the model itself does not hold them whole (ZeRO-3).
    """
    state = _cast(model.state_dict() if state_dict is None else state_dict, dtype)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        config = model.config
        config.vision_tower = dict(model.vision_tower.config)
        config.vision_resolution = model.vision_tower.resolution
        if model.base is None:
            model.llm.save_pretrained(
                temporary / "llm",
                state_dict=_part(state, "llm."),
                safe_serialization=True,
                max_shard_size=max_shard_size,
            )
            model.tokenizer.save_pretrained(temporary / "llm")
        else:
            adapter.write(model.llm, model.base, _part(state, "llm."), temporary / "llm")
        _fix_llm_config(temporary / "llm" / "config.json", model, dtype)
        config.write(temporary, {} if model.base is None else model.base.to_config())
        layers = _part(state, "mm_projector.", "layers.single.") | _part(state, "change_encoder.", "layers.change.")
        for part, weights in (("vision_tower", _part(state, "vision_tower.")), ("mm_projector", layers)):
            if model.base is None or part not in model.base.parts:
                save_file(weights, temporary / part / "model.safetensors", metadata={"format": "pt"})
        for file in temporary.rglob("*.safetensors"):  # written for the owner only; a cluster's colleagues read too
            file.chmod((temporary / "config.json").stat().st_mode)
        preprocessing = model.image_processor.to_config()
        write_json(temporary / "vision_tower" / "preprocessor_config.json", preprocessing, sort_keys=True)
        folder.mkdir(exist_ok=True)
        (folder / "config.json").unlink(missing_ok=True)  # incomplete from here until it is back
        for part in PARTS:
            if (folder / part).exists():
                shutil.rmtree(folder / part)
            (temporary / part).rename(folder / part)
        (temporary / "config.json").rename(folder / "config.json")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fix_llm_config(path: Path, model, dtype: torch.dtype | None) -> None:
    """The stored dtype is a fact of the files just written, not of the model in memory."""
    stored = dtype or next(model.llm.parameters()).dtype
    llm = read_config(path) | {"torch_dtype": str(stored).removeprefix("torch.")}
    llm["tokenizer_model_max_length"] = model.config.model_max_length
    llm.pop("_name_or_path", None)
    write_json(path, llm, sort_keys=True)
    model.config.llm = llm


def _part(state: dict, prefix: str, new: str = "") -> dict:
    """The weights whose keys begin with ``prefix``, which ``new`` replaces."""
    return {new + k.removeprefix(prefix): v.contiguous() for k, v in state.items() if k.startswith(prefix)}


def _cast(state: dict, dtype: torch.dtype | None) -> dict:
    return {k: v.to(dtype) if dtype and v.is_floating_point() else v for k, v in state.items()}


def pick_device(device: str) -> str:
    """auto -> cuda, mps or cpu; a device that is not there is an error."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind = str(device).split(":")[0]
    choose("device", kind, dict.fromkeys(("cpu", "cuda", "mps", "meta")))
    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}.get(kind, lambda: True)()
    if not there:
        raise BTCChatError(f"device {device} was asked for, and PyTorch finds none here; use --device cpu or auto")
    return str(device)


def pick_dtype(dtype: str | torch.dtype, device: str, llm_folder: Path) -> torch.dtype:
    """auto: the stored dtype; on a CPU float32 where the model is small or the CPU has no instructions for it."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype != "auto":
        return choose("dtype", dtype, DTYPES)
    stored = DTYPES.get(stored_dtype(llm_folder), torch.float32)
    if device != "cpu":
        return stored
    size = sum(file.stat().st_size for file in llm_folder.glob("*.safetensors"))
    fast = stored == torch.bfloat16 and torch.cpu._is_avx512_bf16_supported()
    return stored if fast and size > SMALL else torch.float32


def stored_dtype(llm_folder: Path) -> str:
    """What config.json says of the weights: torch_dtype, or as newer transformers writes it dtype."""
    config = read_config(llm_folder / "config.json")
    return str(config.get("torch_dtype") or config.get("dtype") or "float32")


def _change_encoder_config(source: Source, folder, from_origin: bool, chg_type: str | None, asked: dict) -> dict:
    """What change encoder the folder holds, or with from_origin which one to make; ``asked`` must agree."""
    keys = source.mm_projector.places
    change = [key.removeprefix("layers.change.") for key in keys if key.startswith("layers.change.")]
    said = source.config.change_encoder
    name = CHG_TYPES.get(chg_type, chg_type)
    if from_origin:
        if change:
            raise BTCChatError(
                f"{folder} has a change encoder already, and from_origin starts a fresh one; drop from_origin"
            )
        return {"change_encoder_type": name or "attentive", **asked}
    if said is None and not change:
        said = {"change_encoder_type": "concat"}
    elif said is None:
        layers = {m.group(1) for key in change if (m := re.match(r"selftrans\.(\d+)\.", key))}
        said = {"change_encoder_type": "attentive", "cc_n_layers": len(layers), "cc_dropout": 0.0}
        if "cc_head" not in asked:
            logger.warning("%s does not say its cc_head; %d is assumed (cc_head= sets it)", folder, DEFAULT_HEADS)
        said["cc_head"] = asked.pop("cc_head", DEFAULT_HEADS)
    said = canonical(said)
    if name is not None and name != said["change_encoder_type"]:
        raise BTCChatError(f"chg_type is {name}, the checkpoint has {said['change_encoder_type']} ({folder})")
    has = encoder_defaults(said["change_encoder_type"]) | said
    if "cc_dropout" in asked and "cc_dropout" in has:
        said["cc_dropout"] = asked.pop("cc_dropout")  # no weight depends on it
    for option, value in asked.items():
        if has.get(option) != value:
            raise BTCChatError(
                f"{option} is {value}, the checkpoint has {has.get(option)} ({folder}); leave it out, or start a fresh "
                "change encoder from a checkpoint without one (from_origin)"
            )
    return said
