"""The checkpoint-N folders of a run."""

import re
import shutil
from pathlib import Path

from btcchat.files import read_json

NAME, PART = "checkpoint-", "tmp-checkpoint-"  # of a folder that is complete, and of one that is not


def complete_checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoint-N folders of a run, oldest first.

    trainer_state.json is the last file of a checkpoint, and the folder gets its name after that.
    """
    steps = {}
    for path in output_dir.glob("checkpoint-*"):
        match = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if match and is_complete(path):
            steps[int(match[1])] = path
    return [steps[step] for step in sorted(steps)]


def is_complete(checkpoint: Path) -> bool:
    return (checkpoint / "trainer_state.json").is_file()


def step_of(checkpoint: Path) -> int:
    """The number of optimizer steps after which it was written."""
    return int(read_json(checkpoint / "trainer_state.json", "global_step")["global_step"])


def delete(checkpoint: Path) -> None:
    """Remove a checkpoint. It is renamed first, so that an interruption leaves no half-deleted one."""
    renamed = checkpoint.with_name(f"tmp-{checkpoint.name}")
    if renamed.exists():
        shutil.rmtree(renamed)
    if checkpoint.exists():
        shutil.rmtree(checkpoint.rename(renamed))


def delete_oldest(output_dir: Path, keep: int) -> None:
    """Delete all complete checkpoints but the last ``keep``."""
    for old in complete_checkpoints(output_dir)[:-keep]:
        delete(old)


def delete_unfinished(output_dir: Path) -> None:
    """Delete what an interrupted run left half-written or half-deleted."""
    for unfinished in [*output_dir.glob("tmp-checkpoint-*"), *output_dir.glob(".tmp-checkpoint-*")]:
        shutil.rmtree(unfinished)
