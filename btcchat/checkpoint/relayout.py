"""Convert checkpoint folders between the two layouts, byte by byte: no model is ever in memory."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from btcchat.checkpoint import adapter, llava_next
from btcchat.checkpoint.config import PARTS
from btcchat.checkpoint.folder import leaves_out_tower, open_folder
from btcchat.checkpoint.hub import resolve
from btcchat.checkpoint.load import Placement, load
from btcchat.checkpoint.weights import Weights
from btcchat.errors import BTCChatError
from btcchat.files import check_new_folder, new_folder, write_json
from btcchat.model import BTCChatModel

logger = logging.getLogger(__name__)

CHUNK = 1 << 24  # bytes in memory at a time
LLM_FILES = (  # copied unchanged, if present
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt",
    "added_tokens.json", "generation_config.json",
)  # fmt: skip


def import_llava_next(src: str | Path, out: str | Path, *, vision_tower: str | Path | None = None) -> None:
    """Write a published LLaVA-NeXT folder or hub id as a folder of our layout. Unused weights are copied too.

    vision_tower: the tower to take sizes from, if not the one that the folder names. Raises BTCChatError before
    anything is written if a weight is unknown, missing or misshapen.
    """
    check_new_folder(Path(out))
    folder = resolve(src)
    if not llava_next.recognise(folder):
        raise BTCChatError(f"{folder} is already in btcchat's layout; there is nothing to import")
    model = _checked(folder, vision_tower)
    source = llava_next.open_folder(folder, vision_tower)
    config = model.config
    config.describe_tower(model.vision_tower)
    with new_folder(Path(out)) as temporary:
        for part in PARTS:
            write_weights(getattr(source, part), temporary / part)
        _copy(source.llm_folder, temporary / "llm")
        write_json(temporary / "llm" / "config.json", config.llm, sort_keys=True)
        preprocessing = model.image_processor.to_config()
        write_json(temporary / "vision_tower" / "preprocessor_config.json", preprocessing, sort_keys=True)
        config.write(temporary)


def export_llava_next(src: str | Path, out: str | Path, *, vision_tower: str | None = None) -> None:
    """Write a model as a published LLaVA-NeXT folder, which the code of CCExpert and LLaVA-OneVision reads.

    vision_tower: hub id or folder that this code builds the tower from, if not the one the model was imported with.
    Raises BTCChatError for a model that this layout cannot store.
    """
    check_new_folder(Path(out))
    folder = resolve(src)
    if adapter.read_base(folder) is not None:
        raise BTCChatError(
            f"{folder} is an adapter, and a LLaVA-NeXT folder cannot store one; merge it first: "
            f"btcchat export --merge {src} OUT"
        )
    tower = vision_tower if leaves_out_tower(folder) else None
    model = _checked(folder, tower)
    if model.config.quantization is not None:
        raise BTCChatError(f"{src} has quantised weights, which that code cannot read; use the model it was made from")
    root = llava_next.published_config(model.config, vision_tower)
    source = open_folder(folder, tower)
    places: dict[str, tuple[Path, str]] = {}
    for part, prefixes in llava_next.PREFIXES.items():
        inverse = {ours: theirs for theirs, ours in prefixes.items()}
        places |= getattr(source, part).rename(inverse).places
    with new_folder(Path(out)) as temporary:
        write_weights(Weights(folder, places), temporary)
        _copy(source.llm_folder, temporary)
        model.tokenizer.save_vocabulary(str(temporary))
        write_json(temporary / "config.json", root, sort_keys=True)


def _checked(folder: Path, vision_tower: str | Path | None) -> BTCChatModel:
    """The model without its weights, after a check of every key and shape."""
    return load(BTCChatModel, folder, Placement(device="meta"), base=None, vision_tower=vision_tower, fields={})


def _copy(src: Path, out: Path) -> None:
    for name in LLM_FILES:
        if (src / name).exists():
            shutil.copyfile(src / name, out / name)


def write_weights(weights: Weights, folder: Path) -> None:
    """Copy ``weights`` byte by byte into ``folder``, one shard for each file that they are in."""
    folder.mkdir(exist_ok=True)
    files = weights.files()
    index: dict[str, str] = {}
    total = 0
    for number, file in enumerate(files, start=1):
        name = "model.safetensors" if len(files) == 1 else f"model-{number:05}-of-{len(files):05}.safetensors"
        names = {ours: key for ours, (where, key) in weights.places.items() if where == file}
        total += _copy_tensors(file, names, folder / name)
        index |= dict.fromkeys(names, name)
        logger.info("%s: %d weights", folder / name, len(names))
    if len(files) > 1:
        content = {"metadata": {"total_size": total}, "weight_map": index}
        write_json(folder / "model.safetensors.index.json", content, sort_keys=True)


def _copy_tensors(src: Path, names: dict[str, str], out: Path) -> int:
    """Write the tensors ``names`` (new name -> key in ``src``) to the file ``out``; returns their size in bytes.

    A safetensors file is 8 bytes with the length of the header, the header (JSON: dtype, shape, place of each tensor),
    and the tensors; https://huggingface.co/docs/safetensors. The library would hold a whole file and a copy.
    """
    with src.open("rb") as file, out.open("wb") as target:
        start = 8 + int.from_bytes(file.read(8), "little")
        stored = json.loads(file.read(start - 8))
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        size = 0
        names = dict(sorted(names.items(), key=lambda item: stored[item[1]]["data_offsets"]))  # read from front to back
        for name, key in names.items():
            begin, end = stored[key]["data_offsets"]
            header[name] = stored[key] | {"data_offsets": [size, size + end - begin]}
            size += end - begin
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
        target.write(len(text).to_bytes(8, "little") + text)
        for key in names.values():
            begin, end = stored[key]["data_offsets"]
            file.seek(start + begin)
            while begin < end:
                begin += target.write(file.read(min(CHUNK, end - begin)))
    return size
