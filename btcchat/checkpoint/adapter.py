"""LoRA adapters of the language model, through peft: a folder with the trained weights, which names its base.

It is a checkpoint folder (see config.py) without the weights that were not trained:

    config.json     also ``base_model``: where the base is, a fingerprint of it, and the parts taken from it
    llm/            config.json, and adapter_config.json and adapter_model.safetensors in peft's own layout
    mm_projector/   the whole projector and change encoder
    vision_tower/   config.json; its weights only if they were trained

The base is loaded like any checkpoint, so an adapter is small, and one base in memory answers with and without it.
"""

import contextlib
import hashlib
import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from btcchat.checkpoint.config import read_config
from btcchat.checkpoint.layout import CheckpointSource
from btcchat.checkpoint.schema import AdapterConfig, BaseModel, RootConfig
from btcchat.checkpoint.weights import FLOATS, MISFIT, Weights, weight_names
from btcchat.errors import BTCChatError, choose

if TYPE_CHECKING:
    from peft.tuners.tuners_utils import BaseTunerLayer

NAME = "default"  # peft's own name for a model's only adapter
WEIGHTS = "adapter_model.safetensors"


@dataclass
class Base:
    """The checkpoint an adapter belongs to: its folder or hub id, a hash of its weights, the parts taken from it."""

    path: str
    fingerprint: str
    parts: list[str] = field(default_factory=lambda: ["llm", "vision_tower"])

    @classmethod
    def of(cls, path: str | Path, source: CheckpointSource) -> "Base":
        """The base at ``path``, a folder or a hub id, opened as ``source``."""
        local = Path(path).expanduser()
        return cls(str(local.resolve()) if local.is_dir() else str(path), fingerprint(source))

    def to_config(self) -> RootConfig:
        return {"base_model": cast(BaseModel, asdict(self))}


class HasAdapter(Protocol):
    """A model whose language model may have an adapter; ``base`` is then the adapter's."""

    llm: PreTrainedModel
    base: Base | None


def read_base(folder: Path) -> Base | None:
    """The base that the config.json of an adapter folder names; None for a plain checkpoint."""
    root: RootConfig = read_config(folder / "config.json", RootConfig)
    base = root.get("base_model")
    if base is None:
        return None
    try:
        return Base(**base)
    except TypeError:
        raise BTCChatError(f"{folder / 'config.json'}: base_model needs path, fingerprint and parts") from None


def check_base(adapter: Path, base: Base, folder: Path, source: CheckpointSource) -> None:
    """Raise BTCChatError if ``folder``, opened as ``source``, lacks the weights that the adapter was trained on."""
    if fingerprint(source) != base.fingerprint:
        raise BTCChatError(
            f"{adapter} is an adapter of {base.path}, but {folder} has different weights; "
            "name the folder that it was trained on with --base (Python: base=)"
        )


def fingerprint(source: CheckpointSource) -> str:
    """A hash of the frozen parts' weights: their names, types, shapes and 256 bytes from the middle of each.

    It does not depend on the shards and reads no weight completely: for 3B parameters it takes milliseconds.
    """
    rows = []
    for part, weights in (("llm", source.llm), ("vision_tower", source.vision_tower)):
        for file in weights.files():
            with file.open("rb") as handle:
                size = int.from_bytes(handle.read(8), "little")  # safetensors: 8 bytes of length, the header, the data
                header = json.loads(handle.read(size))
                for name, (where, key) in weights.places.items():
                    if where == file:
                        begin, end = header[key]["data_offsets"]
                        handle.seek(8 + size + (begin + end) // 2)
                        middle = handle.read(min(256, end - (begin + end) // 2))
                        rows.append([part, name, header[key]["dtype"], header[key]["shape"], middle.hex()])
    return hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()


# -- the adapter in a model ------------------------------------------------------------------------------------------


def lora_layers(llm: PreTrainedModel) -> dict[str, "BaseTunerLayer"]:
    """Name -> layer, of all layers with an adapter."""
    if not hasattr(llm, "peft_config"):
        return {}
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: module for name, module in llm.named_modules() if isinstance(module, BaseTunerLayer)}


def linear_names(llm: PreTrainedModel) -> list[str]:
    """The last names of the language model's linear layers except the output head: LoRA adapts these by default."""
    head = llm.get_output_embeddings()
    linear = (name for name, module in llm.named_modules() if isinstance(module, nn.Linear) and module is not head)
    return sorted({name.rpartition(".")[2] for name in linear if "lora_" not in name})


def attach(
    llm: PreTrainedModel,
    *,
    target_modules: Sequence[str],
    r: int = 8,
    lora_alpha: float = 8,
    lora_dropout: float = 0.0,
) -> None:
    """Put fresh LoRA layers into ``llm``; they change no answer yet. The options and their defaults are peft's."""
    peft = import_peft()
    known = dict.fromkeys(linear_names(llm))
    for name in target_modules:
        choose("target module", name, known)
    config = peft.LoraConfig(r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout, target_modules=list(target_modules))
    peft.inject_adapter_in_model(config, llm, NAME)


def import_peft() -> ModuleType:
    try:
        return importlib.import_module("peft")
    except ImportError as fault:
        raise BTCChatError(
            f"an adapter needs the package peft, which cannot be imported ({fault}); "
            "install it with: pip install 'btcchat[train]'"
        ) from fault


@contextlib.contextmanager
def off(model: HasAdapter) -> Iterator[None]:
    """Within the context the adapter is bypassed, so that the same weights give the base's answers."""
    layers = lora_layers(model.llm).values()
    if not layers:
        raise BTCChatError("the model has no adapter to switch off; it is a plain checkpoint")
    trained = {name: p.requires_grad for name, p in model.llm.named_parameters()}
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for name, parameter in model.llm.named_parameters():  # peft unfreezes what it enables
            parameter.requires_grad_(trained[name])


@torch.no_grad()
def merge(model: HasAdapter) -> None:
    """Add the adapter to the weights it adapts, which leaves a plain model."""
    for name, layer in lora_layers(model.llm).items():
        layer.merge(safe_merge=True)
        parent, _, last = name.rpartition(".")
        setattr(model.llm.get_submodule(parent), last, layer.get_base_layer())
    del model.llm.peft_config
    model.base = None


# -- its files -------------------------------------------------------------------------------------------------------


def write(llm: PreTrainedModel, base: Base, state: dict[str, torch.Tensor], folder: Path) -> None:
    """Write llm/ of an adapter folder. state: the language model's weights, including the adapter's."""
    llm.config.save_pretrained(folder)
    config = llm.peft_config[NAME]
    config.base_model_name_or_path = base.path
    config.save_pretrained(folder)
    weights = {_peft_key(key): value for key, value in state.items() if "lora_" in key}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


@torch.no_grad()
def read(llm: PreTrainedModel, folder: Path) -> None:
    """Attach the adapter in llm/ of an adapter folder; every weight must fit."""
    config: AdapterConfig = read_config(folder / "adapter_config.json", AdapterConfig)
    if config.get("peft_type") != "LORA":
        raise BTCChatError(f"{folder / 'adapter_config.json'}: peft_type is {config.get('peft_type')}, expected LORA")
    rank = config.get("r", 8)
    for key, shape in _stored(folder / WEIGHTS).items():
        if "lora_A" in key and shape[:1] != (rank,):
            raise BTCChatError(
                f"{folder / WEIGHTS}: weight '{key}' has shape {shape}, but the config says r {rank}; {MISFIT}"
            )
    attach(
        llm,
        target_modules=config.get("target_modules", []),
        r=rank,
        lora_alpha=config.get("lora_alpha", 8),
        lora_dropout=config.get("lora_dropout", 0.0),
    )
    weights = load_file(folder / WEIGHTS)
    own = {_peft_key(name): p for name, p in llm.named_parameters() if "lora_" in name}
    if differing := sorted(own.keys() ^ weights.keys()):
        where = "missing" if differing[0] in own else "unknown"
        raise BTCChatError(
            f"{folder / WEIGHTS}: weight '{differing[0]}' is {where} according to adapter_config.json; {MISFIT}"
        )
    for key, parameter in own.items():
        if parameter.shape != weights[key].shape:
            got, want = tuple(weights[key].shape), tuple(parameter.shape)
            raise BTCChatError(
                f"{folder / WEIGHTS}: weight '{key}' has shape {got}, but the config says {want}; {MISFIT}"
            )
        parameter.copy_(weights[key])


def _stored(file: Path) -> dict[str, tuple[int, ...]]:
    """Key -> shape of an adapter's weights, from the file's header."""
    stored = Weights(file.parent, {key: (file, key) for key in weight_names(file)})
    shapes = {}
    for key, shape, kind in stored.headers():
        if kind not in FLOATS:
            raise BTCChatError(f"{file}: weight '{key}' is of type {kind}, expected one of {', '.join(FLOATS)}")
        shapes[key] = shape
    return shapes


def _peft_key(name: str) -> str:
    """The name that peft gives a weight in a file."""
    return "base_model.model." + name.replace(f".{NAME}.", ".")
