"""The folders that a run leaves."""

from pathlib import Path

from btcchat.train.checkpoints import checkpoints, fault


def complete_checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoint-N folders that a run can be resumed from, oldest first."""
    return [path for path in checkpoints(output_dir) if fault(path) is None]
