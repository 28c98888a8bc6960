"""training.json: everything a run was started with. It lies beside the weights and beside every checkpoint."""

import dataclasses
import importlib.metadata
import json
import logging
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from btcchat.data.mixture import Mixture
from btcchat.data.mixture.facts import facts
from btcchat.data.mixture.stream import StreamMixture
from btcchat.files import read_json, write_json
from btcchat.train.freeze import Part

logger = logging.getLogger(__name__)

NAME = "training.json"
PACKAGES = ("btcchat", "torch", "transformers", "accelerate", "tokenizers", "sentencepiece", "numpy", "pillow", "av")
OPTIONAL = ("deepspeed", "peft", "bitsandbytes", "datasets", "flash-attn")


def run_record(
    arguments: tuple, model, parts: Sequence[Part], dataset: Mixture | StreamMixture, checkpoint: str | None
) -> dict:
    """Command, flags, model, data with fingerprints, versions, machine, git revision. Secrets are left out.

    Warns where a run that is resumed differs from the one that began.
    """
    flags = {}
    for part in arguments:
        values = part.to_dict() if hasattr(part, "to_dict") else dataclasses.asdict(part)
        flags |= {name: value for name, value in values.items() if not name.endswith("_token")}
    start = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "resumed_from": checkpoint,
        "git_revision": _git_revision(),
    }
    record = {
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
            "processes": arguments[-1].world_size,
        },
        "git_revision": start["git_revision"],
        "starts": [start],  # one more each time the run is resumed
    }
    record = json.loads(json.dumps(record, default=str))  # as it will be read again
    if checkpoint is not None and (Path(checkpoint) / NAME).exists():
        before = read_json(Path(checkpoint) / NAME, "flags", "data", "versions", "starts")
        _warn_of_changes(before, record)
        record["starts"] = before["starts"] + record["starts"]
    return record


def write_run_record(folder: Path, record: dict) -> Path:
    """Write ``folder/training.json``, whole or not at all."""
    write_json(folder / NAME, record)
    return folder / NAME


def _warn_of_changes(before: dict, now: dict) -> None:
    """A resumed run is the uninterrupted one only if nothing but these is different."""
    harmless = ("resume", "resume_from_checkpoint", "overwrite_output_dir", "logging_dir", "disable_tqdm", "run_name")
    harmless += ("cache_vision_features",)
    then, flags = before["flags"], now["flags"]
    for name in sorted(then.keys() & flags.keys() - set(harmless)):
        if then[name] != flags[name]:
            logger.warning("resumed with --%s %s, the run began with %s", name, flags[name], then[name])
    if before["data"] != now["data"]:
        logger.warning("resumed with other data than the run began with (the fingerprints in %s differ)", NAME)
    for name in ("torch", "transformers"):
        if before["versions"][name] != now["versions"][name]:
            logger.warning(
                "resumed with %s %s, the run began with %s", name, now["versions"][name], before["versions"][name]
            )


def _device(device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """The revision of the checkout this package lies in; None where it lies in none."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
