"""Save a whole model as a checkpoint folder (see config.py)."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from btcchat.checkpoint import adapter, quantize
from btcchat.checkpoint.config import PARTS, read_config
from btcchat.checkpoint.schema import LLMConfig
from btcchat.checkpoint.weights import SCALE, check_finite
from btcchat.compat.configs import published_rope, published_tokenizer
from btcchat.compat.noise import no_bars
from btcchat.errors import BTCChatError
from btcchat.files import read_json, write_json
from btcchat.language_model.llama_tokenizer import LlamaTokenizer
from btcchat.language_model.tokenizer import with_line_merges
from btcchat.model import BTCChatModel
from btcchat.outputs.lock import Lock
from btcchat.outputs.ours import NAME

TRAINING = "training.json"  # a training writes it before anything else: see train.run_record
UNFINISHED = ".unfinished.json"  # the config.json of a folder whose parts are being replaced


def save(
    model: BTCChatModel,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    max_shard_size: str = "5GB",
    state_dict: Mapping[str, Tensor] | None = None,
) -> None:
    """Write ``model`` to ``folder``; an error while writing leaves the old contents.

    Floating-point weights are written unchanged, or cast to ``dtype``. A folder with a config.json is complete.
    state_dict: the weights, if the model itself holds only a share of them (ZeRO-3). Raises BTCChatError if a weight
    is not finite, ``folder`` holds files that `save` did not write, or another process is saving there.
    """
    quantize.check_savable(model)
    state = _cast(model.state_dict() if state_dict is None else state_dict, dtype)
    check_finite(state, folder)
    check_ours(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        config = model.config
        config.describe_tower(model.vision_tower)
        if model.base is None:
            with no_bars():
                model.llm.save_pretrained(
                    temporary / "llm",
                    state_dict=_part(state, "llm."),
                    safe_serialization=True,
                    max_shard_size=max_shard_size,
                )
            model.tokenizer.save_pretrained(temporary / "llm")
            _fix_tokenizer(model.tokenizer, temporary / "llm")
        else:
            adapter.write(model.llm, model.base, _part(state, "llm."), temporary / "llm")
        _fix_llm_config(temporary / "llm" / "config.json", model, dtype)
        config.write(temporary, None if model.base is None else model.base.to_config())
        layers = _part(state, "mm_projector.", "layers.single.") | _part(state, "change_encoder.", "layers.change.")
        for part, weights in (("vision_tower", _part(state, "vision_tower.")), ("mm_projector", layers)):
            if model.base is None or part not in model.base.parts:
                save_file(weights, temporary / part / "model.safetensors", metadata={"format": "pt"})
        for file in temporary.rglob("*.safetensors"):  # saved for the owner only; others may read too
            file.chmod((temporary / "config.json").stat().st_mode)
        preprocessing = model.image_processor.to_config()
        write_json(temporary / "vision_tower" / "preprocessor_config.json", preprocessing, sort_keys=True)
        folder.mkdir(exist_ok=True)
        with Lock(folder / ".saving.lock", str(folder)):
            check_ours(folder)  # files may have appeared while the weights were written
            _replace(folder, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(folder: Path, new: Path) -> None:
    """Move the parts and then config.json of ``new`` to ``folder``, which is incomplete from the first to the last."""
    shutil.copyfile(new / "config.json", folder / UNFINISHED)
    (folder / "config.json").unlink(missing_ok=True)
    for part in PARTS:
        if (folder / part).exists():
            shutil.rmtree(folder / part)
        (new / part).rename(folder / part)
    (new / "config.json").rename(folder / "config.json")
    (folder / UNFINISHED).unlink()


def check_ours(folder: Path) -> None:
    """Raise BTCChatError if `save` would replace files in ``folder`` that neither it nor a training wrote."""
    if any(saved_by_us(folder / name) for name in ("config.json", UNFINISHED, TRAINING)):
        return
    for name in (*PARTS, "config.json"):
        if (folder / name).exists():
            raise BTCChatError(f"{folder / name} already exists, and btcchat did not save it; give another folder")


def saved_by_us(file: Path) -> bool:
    """Whether a JSON file says that btcchat wrote it."""
    try:
        return file.is_file() and read_json(file).get("saved_by") == NAME
    except BTCChatError:  # it is not a JSON object
        return False


def _fix_llm_config(path: Path, model: BTCChatModel, dtype: torch.dtype | None) -> None:
    """The stored dtype is a fact of the files just written, not of the model in memory."""
    stored = dtype or next(model.llm.parameters()).dtype
    llm = cast(LLMConfig, published_rope(read_config(path, LLMConfig)))
    llm.pop("dtype", None)
    llm["torch_dtype"] = str(stored).removeprefix("torch.")
    if name := model.config.llm.get("model_type"):
        llm["model_type"] = name  # a plugin may give a family of transformers another name
    llm["tokenizer_model_max_length"] = model.config.model_max_length
    llm.setdefault("tokenizer_padding_side", "right")  # VILA's, which its loader reads
    llm.pop("_name_or_path", None)
    write_json(path, llm, sort_keys=True)
    model.config.llm = llm


def _fix_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Rewrite the tokenizer's files as published code expects them, whichever version wrote them."""
    config = published_tokenizer(read_json(folder / "tokenizer_config.json"))
    if isinstance(tokenizer, LlamaTokenizer):  # transformers 5 leaves these out
        config |= {"add_bos_token": tokenizer.add_bos_token, "add_eos_token": tokenizer.add_eos_token}
    write_json(folder / "tokenizer_config.json", config, sort_keys=True)
    if (folder / "tokenizer.json").exists():
        write_json(folder / "tokenizer.json", with_line_merges(folder / "tokenizer.json"))


def _part(state: Mapping[str, Tensor], prefix: str, new: str = "") -> dict[str, Tensor]:
    """The weights whose keys begin with ``prefix``, which becomes ``new``."""
    return {new + k.removeprefix(prefix): v.contiguous() for k, v in state.items() if k.startswith(prefix)}


def _cast(state: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    return {
        k: v.to(dtype) if dtype and v.is_floating_point() and not k.endswith(SCALE) else v for k, v in state.items()
    }
