"""SHA-256 hashes of files and checkpoints."""

import hashlib
import os
from pathlib import Path

from btcchat.checkpoint.config import PARTS
from btcchat.checkpoint.hub import CHECKPOINT
from btcchat.errors import BTCChatError
from btcchat.media.source import Embedded

BLOCK = 2**20  # bytes
# Files in a checkpoint folder that record how it was made; they are not part of the hash.
NOTES = ("training.json", "trainer_state.json", "meter.json", "selection.json")


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Raises BTCChatError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError as error:
        raise BTCChatError(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def joined(hashes: list[str]) -> str:
    """One hash of several hashes, in order."""
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def checkpoint_hash(folder: str | Path) -> str:
    """One hash of a checkpoint's config, weights and tokenizer, in any layout.

    The subfolders of a training run (checkpoint-N, best, evaluations, clues) are left out.
    """
    folder = Path(folder)
    files = {file for pattern in CHECKPOINT for file in folder.glob(pattern)}
    files |= {file for pattern in CHECKPOINT for part in PARTS for file in (folder / part).rglob(pattern)}
    names = {file.relative_to(folder).as_posix(): file for file in files if file.name not in NOTES}
    return joined([part for name in sorted(names) for part in (name, file_hash(names[name]))])


class FileHashes:
    """``hashes(path)`` is the hash of a file's bytes; a file of known size and modification time is not read again.

    ``known`` maps path to (bytes, modification time in ns, hash).
    """

    def __init__(self) -> None:
        self.known: dict[str, tuple[int, int, str]] = {}

    def __call__(self, source: str | Path | Embedded) -> str:
        return self.facts(source)[2]

    def facts(self, source: str | Path | Embedded) -> tuple[int, int, str]:
        """(bytes, modification time in ns, hash); the time is 0 for a file inside another."""
        if isinstance(source, Embedded):
            return len(source.data), 0, hashlib.sha256(source.data).hexdigest()
        path, state = os.path.abspath(source), os.stat(source)
        size, time, _ = self.known.get(path, (-1, -1, ""))
        if (size, time) != (state.st_size, state.st_mtime_ns):
            self.known[path] = (state.st_size, state.st_mtime_ns, file_hash(path))
        return self.known[path]
