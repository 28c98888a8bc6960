"""Whole checkpoint folders from one layout into the other, byte by byte: no model is ever in memory."""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from btcchat.api import BTCChat
from btcchat.checkpoint import adapter, llava_next
from btcchat.checkpoint.config import PARTS, write_json
from btcchat.checkpoint.folder import leaves_out_tower, open_folder
from btcchat.checkpoint.hub import resolve
from btcchat.checkpoint.weights import Weights
from btcchat.errors import BTCChatError

logger = logging.getLogger(__name__)

CHUNK = 1 << 24  # bytes in memory at a time
LLM_FILES = (  # that go along as they are, where they are there
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt",
    "added_tokens.json", "generation_config.json",
)  # fmt: skip


def import_llava_next(src: str | Path, out: str | Path, *, vision_tower: str | Path | None = None) -> None:
    """Write a published LLaVA-NeXT folder or hub id as a folder of our layout. Weights that no code uses go along.

    vision_tower: the tower whose sizes the folder leaves out, if not the one it names. Raises BTCChatError before
    anything is written where a weight is unknown, missing or misshapen.
    """
    check_new(Path(out))
    folder = resolve(src)
    if not llava_next.recognise(folder):
        raise BTCChatError(f"{folder} is in our layout already; there is nothing to import")
    model = _checked(folder, vision_tower=vision_tower)
    source = llava_next.open_folder(folder, vision_tower)
    config = model.config
    config.vision_tower, config.vision_resolution = dict(model.vision_tower.config), model.vision_tower.resolution
    with new_folder(Path(out)) as temporary:
        for part in PARTS:
            write_weights(getattr(source, part), temporary / part)
        _copy(source.llm_folder, temporary / "llm")
        write_json(temporary / "llm" / "config.json", config.llm)
        write_json(temporary / "vision_tower" / "preprocessor_config.json", model.image_processor.to_config())
        config.write(temporary)


def export_llava_next(src: str | Path, out: str | Path, *, vision_tower: str | None = None) -> None:
    """Write a model as a published LLaVA-NeXT folder, which the code of CCExpert and LLaVA-OneVision reads.

    vision_tower: hub id or folder that such code builds the tower from, if not the one the model was imported with.
    Raises BTCChatError for a model that this layout has no place for.
    """
    check_new(Path(out))
    folder = resolve(src)
    if adapter.read_base(folder) is not None:
        raise BTCChatError(
            f"{folder} is an adapter, and a LLaVA-NeXT folder has no place for one; merge it first: "
            f"btcchat export --merge {src} OUT"
        )
    tower = vision_tower if leaves_out_tower(folder) else None
    model = _checked(folder, vision_tower=tower)
    root = llava_next.published_config(model.config, vision_tower)
    source = open_folder(folder, tower)
    places = {}
    for part, prefixes in llava_next.PREFIXES.items():
        inverse = {ours: theirs for theirs, ours in prefixes.items()}
        places |= getattr(source, part).rename(inverse).places
    with new_folder(Path(out)) as temporary:
        write_weights(Weights(folder, places), temporary)
        _copy(source.llm_folder, temporary)
        model.tokenizer.save_vocabulary(str(temporary))
        write_json(temporary / "config.json", root)


def _checked(folder: Path, **options) -> BTCChat:
    """The model without its weights: every key and shape fits, and none is read."""
    return BTCChat.from_pretrained(folder, device="meta", **options)


def _copy(src: Path, out: Path) -> None:
    for name in LLM_FILES:
        if (src / name).exists():
            shutil.copyfile(src / name, out / name)


def write_weights(weights: Weights, folder: Path) -> None:
    """``weights`` byte by byte, one shard for each file they lie in."""
    folder.mkdir(exist_ok=True)
    files = weights.files()
    index, total = {}, 0
    for number, file in enumerate(files, start=1):
        name = "model.safetensors" if len(files) == 1 else f"model-{number:05}-of-{len(files):05}.safetensors"
        names = {ours: key for ours, (where, key) in weights.places.items() if where == file}
        total += _copy_tensors(file, names, folder / name)
        index |= dict.fromkeys(names, name)
        logger.info("%s: %d weights", folder / name, len(names))
    if len(files) > 1:
        write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": index})


def _copy_tensors(src: Path, names: dict[str, str], out: Path) -> int:
    """Write the tensors ``names`` (new name -> key in ``src``) to a file of their own; returns their bytes.

    A safetensors file is 8 bytes that say how long the header is, the header (JSON: dtype, shape, place of each
    tensor), and the tensors; https://huggingface.co/docs/safetensors. The library would hold a whole file and a copy.
    """
    with src.open("rb") as file, out.open("wb") as target:
        start = 8 + int.from_bytes(file.read(8), "little")
        stored = json.loads(file.read(start - 8))
        header, size = {"__metadata__": {"format": "pt"}}, 0
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


def check_new(out: Path) -> None:
    """Raise BTCChatError where ``out`` is taken, or no folder can be made there."""
    try:
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise BTCChatError(f"{out} is there already; name a new folder")
        above = next(path for path in out.absolute().parents if path.exists())
    except OSError as error:
        raise BTCChatError(f"{out} cannot be looked at ({error.strerror}); name another folder") from None
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise BTCChatError(f"{out} cannot be made, as {above} is no folder that you may write to; name another")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``out`` when all is written. Raises BTCChatError where it cannot be."""
    check_new(out)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    except OSError as error:
        raise BTCChatError(f"{out} was not written: {error}; make room, or name another folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
