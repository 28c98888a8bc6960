"""Weight files: strict, safe reading into a module, and writing.

Only safetensors are read. A folder with only ``pytorch_model*.bin`` (a pickle) is refused;
``python -m btcchat.checkpoint.weights FOLDER`` writes safetensors next to it, through torch's tensors-only unpickler.
"""

import logging
import pickle  # only for its error class
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from btcchat.errors import BTCChatError
from btcchat.files import atomic_write, read_json
from btcchat.limits.regular import regular
from btcchat.outputs.ours import contained

logger = logging.getLogger(__name__)

# What to do when the weights do not fit the config.
MISFIT = "undo options or edits that change the model, or download or save the checkpoint again"

SCALE = "weight_scale"  # ends the key of the factors of quantised weights, which are not cast
FLOATS = ("F16", "BF16", "F32", "F64")  # data types of floating-point weights, as safetensors names them


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of ``folder``: one file, or the shards its index names."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        weight_map = read_json(index, "weight_map", way_out="download the folder again")["weight_map"]
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise BTCChatError(f"{index}: expected weight_map to give each weight its file; download the folder again")
        files = [contained(folder, name, index) for name in sorted(set(weight_map.values()))]
        for file in files:
            try:
                regular(file)
            except OSError as error:
                fault = "missing" if isinstance(error, FileNotFoundError) else f"not readable ({error.strerror})"
                raise BTCChatError(f"{file} is {fault}; {index.name} names it, download the folder again") from None
        return files
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    pickles = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt")) + sorted(folder.glob("*.pth"))
    if pickles:
        raise BTCChatError(
            f"{pickles[0]} is a pickle, and only safetensors are read; "
            f"convert it without running its code: python -m btcchat.checkpoint.weights {folder}"
        )
    raise BTCChatError(f"{folder} has no weights: expected model.safetensors or model.safetensors.index.json")


def weight_keys(folder: Path) -> dict[str, Path]:
    """Key -> file, for every weight of ``folder``; reads headers only."""
    return {key: file for file in weight_files(folder) for key in weight_names(file)}


def weight_names(file: Path) -> list[str]:
    """The keys of one safetensors file, from its header."""
    with _open(file) as handle:
        return list(handle.keys())


@dataclass(frozen=True)
class Weights:
    """The weights of one part of a checkpoint: its name for each -> its file and its key there."""

    folder: Path
    places: dict[str, tuple[Path, str]]
    prefixes: dict[str, str] | None = None  # key prefix in the files -> prefix of its names; None: equal

    @classmethod
    def of(cls, folder: Path) -> "Weights":
        """All weights of ``folder``, by their own keys."""
        return cls(folder, {key: (file, key) for key, file in weight_keys(folder).items()})

    def files(self) -> list[Path]:
        return sorted({file for file, _ in self.places.values()})

    def read(self, *files: Path) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield (name, tensor) of these files (default: all); tensors are mapped from the file, not copied."""
        for file in files or self.files():
            with _open(file) as handle:
                for name, (where, key) in self.places.items():
                    if where == file:
                        yield name, handle.get_tensor(key)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a weight, from the file's header."""
        if name not in self.places:
            raise BTCChatError(f"{self.folder}: weight '{self.key(name)}' is missing")
        file, key = self.places[name]
        with _open(file) as handle:
            return tuple(handle.get_slice(key).get_shape())

    def headers(self) -> Iterator[tuple[str, tuple[int, ...], str]]:
        """(name, shape, data type such as "F32") of each weight; only headers are read."""
        for file in self.files():
            with _open(file) as handle:
                for name, (where, key) in self.places.items():
                    if where == file:
                        header = handle.get_slice(key)
                        yield name, tuple(header.get_shape()), header.get_dtype()

    def rename(self, prefixes: dict[str, str]) -> "Weights":
        """The weights whose names start with one of ``prefixes`` (old -> new), under their new names."""
        renamed = {new: place for name, place in self.places.items() if (new := _rename(name, prefixes)) is not None}
        return Weights(self.folder, renamed, prefixes)

    def key(self, name: str) -> str:
        """The key of ``name``, which may be missing, in the files."""
        return _rename_back(name, self.prefixes)


def check_header(file: Path) -> None:
    """Raise BTCChatError if ``file`` is missing, or is not as long as its header says."""
    with _open(file):
        pass


def _open(file: Path) -> safe_open:
    try:
        return safe_open(str(regular(file)), framework="pt", device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise BTCChatError(f"{file} cannot be read as safetensors ({error}); download or save it again") from None


def load_strict(
    module: nn.Module,
    weights: Weights | Path,
    *,
    prefixes: dict[str, str] | None = None,
    unused: Sequence[str] = (),
    tied: dict[str, str] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> None:
    """Load ``weights``, or those of a folder, into ``module`` (which may be on the meta device): all, or an error.

    Arguments and errors as in `match_strict`. Floating-point weights are cast to ``dtype``.
    """
    weights = weights if isinstance(weights, Weights) else Weights.of(weights)
    names = match_strict(module, weights, prefixes=prefixes, unused=unused, tied=tied)
    if dropped := [key for key in weights.places if key not in names]:
        logger.info("%s: %d unused weights were left out (%s ...)", weights.folder, len(dropped), dropped[0])
    state = {}
    for key, tensor in Weights(weights.folder, {key: weights.places[key] for key in names}).read():
        cast = dtype if tensor.is_floating_point() and not key.endswith(SCALE) else None
        state[names[key]] = tensor.to(device=device, dtype=cast)
    for key, shared in (tied or {}).items():
        state.setdefault(key, state[shared])
    module.load_state_dict(state, assign=True)


def match_strict(
    module: nn.Module,
    weights: Weights,
    *,
    prefixes: dict[str, str] | None = None,
    unused: Sequence[str] = (),
    tied: dict[str, str] | None = None,
) -> dict[str, str]:
    """Key in the files -> name in ``module``, of all weights that are used. Only headers are read.

    prefixes: {key prefix in the file: key prefix in the module}; without it keys are equal, with it a key without a
    listed prefix is unknown. unused: regular expressions (whole key, as in the file) of weights that published
    checkpoints hold but no code uses. tied: {key: the key whose weight it shares}; such a key may be absent. Raises
    BTCChatError naming the first missing, unknown or misshapen key, or one of an unsupported type.
    """
    folder, expected = weights.folder, module.state_dict()
    names: dict[str, str] = {}
    for key in weights.places:
        if any(re.fullmatch(pattern, key) for pattern in unused):
            continue
        name = _rename(key, prefixes)
        if name is None or name not in expected:
            stored = weights.places[key][1]
            raise BTCChatError(f"{folder}: unknown weight '{stored}'; the config describes no such part; {MISFIT}")
        names[key] = name
    missing = sorted(set(expected) - set(names.values()) - set(tied or ()))
    if missing:
        key = weights.key(_rename_back(missing[0], prefixes))
        raise BTCChatError(
            f"{folder}: weight '{key}' is missing ({len(missing)} of {len(expected)} are missing); "
            f"the config describes more than the folder holds; {MISFIT}"
        )
    for key, shape, kind in Weights(folder, {key: weights.places[key] for key in names}).headers():
        target, stored = expected[names[key]], weights.places[key][1]
        if shape != (want := tuple(target.shape)):
            raise BTCChatError(f"{folder}: weight '{stored}' has shape {shape}, but the config says {want}; {MISFIT}")
        quantised = target.dtype in (torch.int8, torch.uint8)
        if quantised and kind not in ("I8", "U8"):
            raise BTCChatError(
                f"{folder}: weight '{stored}' is of type {kind}, but config.json says that it is quantised; save or "
                "download the folder again"
            )
        if target.is_floating_point() and kind not in FLOATS:
            raise BTCChatError(
                f"{folder}: weight '{stored}' is of type {kind}, and quantised weights cannot be read; use a "
                f"checkpoint in {', '.join(FLOATS)}"
            )
    return names


class NotFiniteError(BTCChatError):
    """A weight is NaN or infinite: whatever is computed from it would be too."""


def check_finite(weights: Mapping[str, torch.Tensor], output: Path) -> None:
    """Raise NotFiniteError if a weight is not finite, before it is written to ``output``."""
    for key, weight in weights.items():
        if weight.is_floating_point() and weight.numel():
            low, high = weight.detach().aminmax()  # NaN counts as both
            if not (low.isfinite() and high.isfinite()):
                raise NotFiniteError(f"weight '{key}' is not finite (NaN or infinity), so {output} was not written")


def _rename(key: str, prefixes: dict[str, str] | None) -> str | None:
    if prefixes is None:
        return key
    for old, new in prefixes.items():
        if key.startswith(old):
            return new + key[len(old) :]
    return None


def _rename_back(name: str, prefixes: dict[str, str] | None) -> str:
    return _rename(name, {new: old for old, new in prefixes.items()} if prefixes else None) or name


def convert_pickles(folder: Path) -> None:
    """Write model.safetensors next to the .bin, .pt or .pth files of ``folder``; a pickle with code is refused."""
    state = {}
    for file in sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt")) + sorted(folder.glob("*.pth")):
        try:
            part = torch.load(file, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
            raise BTCChatError(f"{file}: {str(error).splitlines()[0]}") from None
        state.update({k: v.contiguous().clone() for k, v in part.items()})
    if not state:
        raise BTCChatError(f"{folder} has no *.bin, *.pt or *.pth file to convert")
    if (folder / "model.safetensors").exists():
        raise BTCChatError(f"{folder / 'model.safetensors'} exists already; remove it to convert again")
    with atomic_write(folder / "model.safetensors") as part:
        save_file(state, part, metadata={"format": "pt"})


if __name__ == "__main__":
    try:
        convert_pickles(Path(sys.argv[1]))
    except (BTCChatError, IndexError) as fault:
        sys.exit(f"usage: python -m btcchat.checkpoint.weights FOLDER: {fault}")
