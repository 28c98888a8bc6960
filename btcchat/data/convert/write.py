"""The annotation files a conversion writes: all of them, or none."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from btcchat.errors import BTCChatError
from btcchat.files import atomic_write, cannot_write, json_line
from btcchat.outputs.lock import Lock


@contextmanager
def write_splits(out: str | Path, splits: Sequence[str]) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Yield ``write(split, record)``, which adds to SPLIT.jsonl in the folder ``out``.

    The files get their final names when the block ends; if it raises, no file or new folder is left. Raises
    BTCChatError if a file of that name already exists, the folder cannot be written, or another process writes there.
    """
    out = Path(out)
    paths = {split: out / f"{split}.jsonl" for split in splits}
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        with ExitStack() as stack:  # closes all files before the first of them gets its final name
            _make(out)
            stack.enter_context(Lock(out / ".lock", str(out), "wait for it, or give another OUT"))
            for path in paths.values():
                if path.exists():
                    raise BTCChatError(f"{path} already exists; remove it or choose another OUT")
            parts = {split: stack.enter_context(atomic_write(path, name=str(out))) for split, path in paths.items()}
            files = {split: stack.enter_context(part.open("wb")) for split, part in parts.items()}

            def write(split: str, record: dict[str, Any]) -> None:
                files[split].write(json_line(record))

            yield write
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
