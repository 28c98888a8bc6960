"""The output folder of a run: it belongs to one run at a time, and files that no run wrote are never replaced."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from btcchat.checkpoint import save
from btcchat.errors import BTCChatError
from btcchat.files import cannot_write
from btcchat.outputs.lock import Lock
from btcchat.train.run_record import NAME as RECORD
from btcchat.train.trainer import Hook, Trainer
from btcchat.train.training_arguments import TrainingArguments

# What a run writes and replaces there, besides the model's own files.
NAMES = (
    RECORD, "trainer_state.json", "checkpoint-*", "tmp-checkpoint-*", ".tmp-checkpoint-*", "best", "best.partial",
    "evaluations",
)  # fmt: skip
OTHER = "give another --output_dir"


@contextmanager
def output_folder(args: TrainingArguments) -> Iterator[Lock | None]:
    """Lock --output_dir for this run; yields None in the processes that do not write.

    Raises BTCChatError if another run is writing there, or if the run would replace files that btcchat did not write.
    """
    if args.process_index != 0:
        yield None
        return
    folder = Path(args.output_dir)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with Lock(folder / ".training.lock", f"--output_dir {folder}", f"wait for it, or {OTHER}") as lock:
            check_ours(folder)
            yield lock
    except OSError as error:
        if error.filename is None or Path(str(error.filename)) not in (folder, *made):
            raise
        raise cannot_write(f"--output_dir {folder}", error, OTHER) from error
    finally:
        for path in made:
            with suppress(OSError):  # it is not empty: the run has written something
                path.rmdir()


def check_ours(folder: Path) -> None:
    """Raise BTCChatError if ``folder`` holds something that a run would replace but that no btcchat run wrote.

    A run writes training.json before anything else, so everything in a folder with that file is ours.
    """
    if not save.saved_by_us(folder / RECORD):
        for path in (path for name in NAMES for path in sorted(folder.glob(name))):
            if not save.saved_by_us(path / RECORD):  # a checkpoint has a copy
                raise BTCChatError(f"{path} already exists, and btcchat train did not write it; {OTHER}")
    save.check_ours(folder)


class Watch(Hook):
    """Stops a run whose output folder is deleted, instead of recreating the folder without its checkpoints."""

    def __init__(self, lock: Lock, folder: str) -> None:
        self.lock, self.folder = lock, folder

    def after_step(self, trainer: Trainer) -> None:
        if not self.lock.holds():
            raise BTCChatError(
                f"--output_dir {self.folder} was deleted or replaced during the run, at step "
                f"{trainer.state.global_step}; its checkpoints are gone: start the run again"
            )
