"""The rule for every output: an existing file is replaced only if btcchat wrote it, and never if it is an input."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from btcchat.errors import BTCChatError

NAME = "btcchat"  # how our files name the program that wrote them
HTML = f"<meta name=generator content={NAME}>"
PNG = b"tEXtSoftware\0" + NAME.encode()
HEAD = 1 << 16  # bytes at the start of a file that are searched for a mark

IsOurs = Callable[[bytes], bool]  # the first bytes of a file -> whether we wrote it


def check_replaceable(path: Path, option: str, is_ours: IsOurs, inputs: Iterable[str | Path] = ()) -> None:
    """Raise BTCChatError unless ``path`` may be written: it is new, empty or written by btcchat, and not an input.

    option: the flag that errors name, such as --out.
    """
    for file in inputs:
        if path.exists() and os.path.exists(file) and os.path.samefile(path, file):
            raise BTCChatError(f"{option} {path} is the input {file}; give another file")
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD)
    except (FileNotFoundError, IsADirectoryError):  # for a folder, `atomic_write` raises the error
        return
    except OSError as error:
        raise BTCChatError(f"{option} {path} cannot be written: {error.strerror}; give another file") from None
    if head and not is_ours(head):
        raise BTCChatError(f"{option} {path} already exists, and btcchat did not write it; give another file")


def is_page(head: bytes) -> bool:
    """Whether ``head`` is the beginning of an HTML page that btcchat wrote."""
    return HTML.encode() in head


def is_drawn_map(head: bytes) -> bool:
    """Whether ``head`` is the beginning of a PNG file that btcchat wrote."""
    return PNG in head


def has_rows_of(*keys: str) -> IsOurs:
    """A check whether a file begins with a line of JSON that has exactly these keys."""

    def is_ours(head: bytes) -> bool:
        try:
            row = json.loads(head.partition(b"\n")[0])
        except (ValueError, RecursionError):
            return False
        return isinstance(row, dict) and row.keys() == set(keys)

    return is_ours


def contained(folder: Path, name: str, index: Path) -> Path:
    """``folder / name``. Raises BTCChatError if ``name``, which the file ``index`` gives, is outside of the folder.

    Only the name is checked, not where links point: the files in the cache of the Hugging Face Hub are links.
    """
    parts = name.replace("\\", "/").split("/")
    if not name or name.startswith(("/", "\\")) or ":" in parts[0] or ".." in parts or "\0" in name:
        raise BTCChatError(f"{index} names the file '{name}', which is not in its folder; download the folder again")
    return folder / name
