"""The checkpoint-N folders of a run."""

import pickle  # only for its error class
import re
import shutil
from pathlib import Path
from typing import cast

import torch

from btcchat.checkpoint import adapter
from btcchat.checkpoint.config import PARTS
from btcchat.checkpoint.weights import check_header, weight_files
from btcchat.errors import BTCChatError
from btcchat.files import REPAIR, read_json
from btcchat.language_model.tokenizer import load_tokenizer
from btcchat.train.meter import METER, MeterState
from btcchat.train.resume import DEEPSPEED, OPTIMIZER, SCHEDULE, random_name
from btcchat.train.run_record import NAME as RECORD
from btcchat.train.run_record import RunRecord
from btcchat.train.run_state import NAME as STATE
from btcchat.train.run_state import TrainState

NAME, PART = "checkpoint-", "tmp-checkpoint-"  # prefixes of a complete and of an unfinished folder


def checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoint-N folders of a run, oldest first, complete or not."""
    found = [path for path in output_dir.glob(f"{NAME}*") if re.fullmatch(rf"{NAME}[0-9]+", path.name)]
    return sorted(found, key=number)


def number(checkpoint: Path) -> int:
    """N of checkpoint-N."""
    return int(checkpoint.name.removeprefix(NAME))


def fault(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be resumed (a missing or truncated file), or None if it is complete.

    Only the headers of the weights and of the optimizer's state are read.
    """
    try:
        _check(checkpoint)
    except BTCChatError as error:
        return str(error).replace(f"{checkpoint}/", "").removesuffix(f"; {REPAIR}")
    return None


def _check(checkpoint: Path) -> None:
    step_of(checkpoint)
    read_json(checkpoint / METER, schema=MeterState)
    record = cast(RunRecord, read_json(checkpoint / RECORD, schema=RunRecord))
    base = adapter.read_base(checkpoint)
    for part in PARTS:
        read_json(checkpoint / part / "config.json")
        if base is None or part not in base.parts:
            for file in weight_files(checkpoint / part):
                check_header(file)
    if base is not None:
        check_header(checkpoint / "llm" / adapter.WEIGHTS)
    else:
        load_tokenizer(checkpoint / "llm")
    processes = record["machine"]["processes"]
    files = [checkpoint / name for name in (SCHEDULE, *map(random_name, range(processes)))]
    folder = checkpoint / DEEPSPEED
    if folder.is_dir():
        own = sorted(folder.glob("*_optim_states.pt"))
        if len(own) < processes:
            raise BTCChatError(f"{folder} has the optimizer state of only {len(own)} of {processes} processes")
        for file in folder.glob("*.pt"):
            _check_archive(file)
    else:
        files.append(checkpoint / OPTIMIZER)
    for file in files:
        _check_tensors(file)


def _check_tensors(file: Path) -> None:
    """Raise BTCChatError if torch cannot load ``file``; no tensor is read."""
    if not file.is_file():
        raise BTCChatError(f"{file} is missing")
    try:
        torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise BTCChatError(f"{file} cannot be read ({(str(error).splitlines() or ['truncated'])[0]})") from None


def _check_archive(file: Path) -> None:
    """The same for a DeepSpeed file, which holds DeepSpeed's own objects: only its table of contents is read."""
    try:
        torch._C.PyTorchFileReader(str(file))
    except RuntimeError:
        raise BTCChatError(f"{file} cannot be read; it is truncated") from None


def step_of(checkpoint: Path) -> int:
    """The number of optimizer steps after which a checkpoint was written."""
    return TrainState.read(checkpoint).global_step


def delete(checkpoint: Path) -> None:
    """Remove a checkpoint. It is renamed first, so that an interruption leaves no half-deleted one."""
    renamed = checkpoint.with_name(f"tmp-{checkpoint.name}")
    if renamed.exists():
        shutil.rmtree(renamed)
    if checkpoint.exists():
        shutil.rmtree(checkpoint.rename(renamed))


def delete_oldest(output_dir: Path, keep: int) -> None:
    """Delete all complete checkpoints but the last ``keep``. trainer_state.json is the last file of a checkpoint."""
    for old in [path for path in checkpoints(output_dir) if (path / STATE).is_file()][:-keep]:
        delete(old)


def delete_unfinished(output_dir: Path) -> None:
    """Delete what an interrupted run left half-written or half-deleted."""
    for unfinished in [*output_dir.glob(f"{PART}*"), *output_dir.glob(f".{PART}*")]:
        shutil.rmtree(unfinished)
