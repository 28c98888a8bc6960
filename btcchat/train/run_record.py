"""training.json: everything a run was started with."""

import dataclasses
import importlib.metadata
import json
import logging
import platform
import subprocess
from pathlib import Path

from btcchat.data.mixture import Mixture

logger = logging.getLogger(__name__)

PACKAGES = ("btcchat", "torch", "transformers", "accelerate", "tokenizers", "sentencepiece", "numpy", "pillow", "av")


def write_run_record(folder: Path, arguments: tuple, dataset: Mixture, checkpoint: str | None) -> Path:
    """Write ``folder/training.json``: flags, data, package versions, git revision. Secrets are left out."""
    flags = {}
    for part in arguments:
        values = part.to_dict() if hasattr(part, "to_dict") else dataclasses.asdict(part)
        flags |= {name: value for name, value in values.items() if "token" not in name}
    rows = {str(records.path): len(records) for records in dataset.sets}
    repeats = {path: sum(str(records.path) == path for records in dataset.sets) for path in rows}
    path = folder / "training.json"
    if checkpoint is not None and path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))["flags"]
        _warn_of_changes(before, json.loads(json.dumps(flags, default=str)))
    record = {
        "flags": flags,
        "resumed_from": checkpoint,
        "data": [{"annotation": path, "records": rows[path], "repeats": repeats[path]} for path in rows],
        "versions": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "machine": {"system": platform.platform(), "processor": platform.machine()},
        "git_revision": _git_revision(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")
    return path


def _warn_of_changes(before: dict, now: dict) -> None:
    """A resumed run is the uninterrupted one only if nothing but these is different."""
    harmless = ("resume", "resume_from_checkpoint", "overwrite_output_dir", "logging_dir", "disable_tqdm")
    for name in sorted(before.keys() & now.keys() - set(harmless)):
        if before[name] != now[name]:
            logger.warning("resumed with --%s %s, the run began with %s", name, now[name], before[name])


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
