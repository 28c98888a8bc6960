"""What a file or a checkpoint holds, in 64 letters."""

import hashlib
import os
from pathlib import Path

from btcchat.checkpoint.config import PARTS
from btcchat.checkpoint.hub import CHECKPOINT
from btcchat.errors import BTCChatError
from btcchat.media.source import Embedded

BLOCK = 2**20  # bytes
# Files in a checkpoint folder that record how it was made; they are not a part of it.
NOTES = ("training.json", "trainer_state.json", "meter.json", "selection.json")


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Raises BTCChatError for one that cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError as error:
        raise BTCChatError(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def joined(hashes: list[str]) -> str:
    """One hash of several, in their order."""
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def checkpoint_hash(folder: str | Path) -> str:
    """One hash of a checkpoint's config, weights and tokenizer, in whatever layout it is.

    What a training run keeps in folders of its own (checkpoint-N, best, evaluations, clues) is left out.
    """
    folder = Path(folder)
    files = {file for pattern in CHECKPOINT for file in folder.glob(pattern)}
    files |= {file for pattern in CHECKPOINT for part in PARTS for file in (folder / part).rglob(pattern)}
    names = {file.relative_to(folder).as_posix(): file for file in files if file.name not in NOTES}
    return joined([part for name in sorted(names) for part in (name, file_hash(names[name]))])


class FileHashes:
    """``hashes(path)``: that of a file's bytes; one whose size and time of change are known is not read again.

    ``known`` holds path -> (bytes, time of change in ns, hash).
    """

    def __init__(self) -> None:
        self.known: dict[str, tuple[int, int, str]] = {}

    def __call__(self, source: str | Path | Embedded) -> str:
        return self.facts(source)[2]

    def facts(self, source: str | Path | Embedded) -> tuple[int, int, str]:
        """(bytes, time of change in ns, hash); the time is 0 for a file inside another."""
        if isinstance(source, Embedded):
            return len(source.data), 0, hashlib.sha256(source.data).hexdigest()
        path, state = os.path.abspath(source), os.stat(source)
        size, time, _ = self.known.get(path, (-1, -1, ""))
        if (size, time) != (state.st_size, state.st_mtime_ns):
            self.known[path] = (state.st_size, state.st_mtime_ns, file_hash(path))
        return self.known[path]
