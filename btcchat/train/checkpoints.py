"""The checkpoint-N folders of a run."""

import re
import shutil
from pathlib import Path

from btcchat.files import read_json


def complete_checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoint-N folders of a run, oldest first. The Trainer's state is written last, then the name is given."""
    steps = {}
    for path in output_dir.glob("checkpoint-*"):
        match = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if match and is_complete(path):
            steps[int(match[1])] = path
    return [steps[step] for step in sorted(steps)]


def is_complete(checkpoint: Path) -> bool:
    return (checkpoint / "trainer_state.json").is_file()


def step_of(checkpoint: Path) -> int:
    """Optimizer steps it was written after."""
    return read_json(checkpoint / "trainer_state.json", "global_step")["global_step"]


def delete(checkpoint: Path) -> None:
    """Renamed first: a stop on the way leaves no half checkpoint."""
    unnamed = checkpoint.with_name(f"tmp-{checkpoint.name}")
    if unnamed.exists():
        shutil.rmtree(unnamed)
    if checkpoint.exists():
        shutil.rmtree(checkpoint.rename(unnamed))


def delete_oldest(output_dir: Path, keep: int) -> None:
    """Leave the last ``keep``."""
    for old in complete_checkpoints(output_dir)[:-keep]:
        delete(old)


def delete_unfinished(output_dir: Path) -> None:
    """What a stopped run left half written or half deleted."""
    for unfinished in [*output_dir.glob("tmp-checkpoint-*"), *output_dir.glob(".tmp-checkpoint-*")]:
        shutil.rmtree(unfinished)
