"""training.json: how a run was started. It is saved with the weights and with every checkpoint."""

import dataclasses
import importlib.metadata
import json
import logging
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

import torch
from typing_extensions import TypedDict  # pydantic requires this one on Python < 3.12

from btcchat.checkpoint import save
from btcchat.data.mixture import Mixture
from btcchat.data.mixture.facts import facts
from btcchat.data.mixture.stream import StreamMixture
from btcchat.errors import number
from btcchat.files import read_json, write_json
from btcchat.model import BTCChatModel
from btcchat.outputs.ours import NAME as MAKER
from btcchat.train.arguments import RunArguments
from btcchat.train.freeze import ModelPart

logger = logging.getLogger(__name__)

NAME = save.TRAINING
PACKAGES = (
    *("btcchat", "torch", "transformers", "accelerate", "tokenizers", "sentencepiece"),
    *("numpy", "pillow", "rasterio", "av"),
)
OPTIONAL = ("deepspeed", "peft", "bitsandbytes", "datasets", "flash-attn")
# Flags that may change when a run is resumed.
HARMLESS = {
    *("resume", "resume_from_checkpoint", "overwrite_output_dir", "logging_dir", "disable_tqdm", "run_name"),
    "cache_vision_features",
}
COMPARED = ("torch", "transformers")  # packages whose version should not change


class RunStart(TypedDict):
    """One start of a run, the first or a resumed one."""

    time: str
    command: list[str]
    resumed_from: str | None
    git_revision: str | None


class PartRecord(TypedDict):
    """A part of the model: see `freeze.ModelPart`."""

    name: str
    parameters: int
    trainable: bool
    own_learning_rate: float | None


class MachineRecord(TypedDict):
    system: str
    processor: str
    device: str
    processes: int


class RunRecord(TypedDict):
    """training.json."""

    flags: dict[str, Any]
    model: dict[str, Any]  # the fields of BTCChatConfig
    parts: list[PartRecord]
    data: Sequence[Mapping[str, object]]  # see data.mixture.facts
    versions: dict[str, str | None]
    machine: MachineRecord
    git_revision: str | None
    starts: list[RunStart]  # one is added each time the run is resumed
    saved_by: str  # btcchat: only such a run may be resumed or replaced


def run_record(
    args: RunArguments,
    model: BTCChatModel,
    parts: Sequence[ModelPart],
    dataset: Mixture | StreamMixture,
    checkpoint: str | None,
) -> RunRecord:
    """Command, flags, model, data with fingerprints, versions, machine, git revision. Secrets are left out.

    Warns if a resumed run differs from the one that wrote ``checkpoint``.
    """
    flags: dict[str, Any] = {}
    for values in (dataclasses.asdict(args.model), dataclasses.asdict(args.data), dataclasses.asdict(args.training)):
        flags |= {name: value for name, value in values.items() if not name.endswith("_token")}
    start: RunStart = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "resumed_from": checkpoint,
        "git_revision": _git_revision(),
    }
    record: RunRecord = {
        "flags": flags,
        "model": dataclasses.asdict(model.config),
        "parts": [
            {"name": p.name, "parameters": p.num_parameters, "trainable": p.trainable, "own_learning_rate": p.own_rate}
            for p in parts
        ],
        "data": facts(dataset),
        "versions": {name: _version(name) for name in PACKAGES}
        | {name: version for name in OPTIONAL if (version := _version(name))}
        | {"python": platform.python_version()},
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "device": _device(model.device),
            "processes": args.training.world_size,
        },
        "git_revision": start["git_revision"],
        "starts": [start],
        "saved_by": MAKER,
    }
    record = json.loads(json.dumps(record, default=str))  # as the file will be read back
    if checkpoint is not None and (Path(checkpoint) / NAME).exists():
        before = cast(RunRecord, read_json(Path(checkpoint) / NAME, schema=RunRecord))
        _warn_of_changes(before, record)
        record["starts"] = before["starts"] + record["starts"]
    return record


def write_run_record(folder: Path, record: RunRecord) -> Path:
    """Write ``folder/training.json``, completely or not at all."""
    write_json(folder / NAME, record)
    return folder / NAME


def _warn_of_changes(before: RunRecord, now: RunRecord) -> None:
    """Warn of everything that makes a resumed run differ from an uninterrupted one."""
    message = "resumed with %s %s; it was %s until the checkpoint"
    for name in sorted(before["flags"].keys() & now["flags"].keys() - HARMLESS):
        if before["flags"][name] != now["flags"][name]:
            logger.warning(message, f"--{name}", number(now["flags"][name]), number(before["flags"][name]))
    if before["data"] != now["data"]:
        logger.warning("resumed with data that differ from those until the checkpoint (fingerprints are in %s)", NAME)
    for name in COMPARED:
        if before["versions"].get(name) != now["versions"][name]:
            logger.warning(message, name, now["versions"][name], before["versions"].get(name))


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """The revision of the git checkout that this package is in, or None."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
