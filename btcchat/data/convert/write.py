"""The annotation files a conversion writes: all of them, or none."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from btcchat.errors import BTCChatError
from btcchat.files import atomic_write, json_line


@contextmanager
def write_splits(out: str | Path, splits: Sequence[str]) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Yield ``write(split, record)``, which adds to SPLIT.jsonl in the folder ``out``.

    The files get their names when the block ends; if it raises, nothing stays, nor a folder made for it. Raises
    BTCChatError if a file of that name exists already or the folder cannot be written.
    """
    out = Path(out)
    paths = {split: out / f"{split}.jsonl" for split in splits}
    for path in paths.values():
        if path.exists():
            raise BTCChatError(f"{path} exists already; remove it or choose another OUT")
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        with ExitStack() as stack:  # which closes all files before the first of them gets its name
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
