"""What a file holds, in 64 letters; a file whose size and time of change are known is not read again."""

import hashlib
import os
from pathlib import Path

from btcchat.data.media import Embedded
from btcchat.errors import BTCChatError

BLOCK = 2**20  # bytes


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


class FileHashes:
    """``hashes(path)``: that of a file's bytes. ``known`` holds path -> (bytes, time of change in ns, hash)."""

    def __init__(self):
        self.known: dict[str, tuple[int, int, str]] = {}

    def __call__(self, source: str | Path | Embedded) -> str:
        return self.facts(source)[2]

    def facts(self, source: str | Path | Embedded) -> tuple[int, int, str]:
        """(bytes, time of change in ns, hash); the time is 0 for a file inside another."""
        if isinstance(source, Embedded):
            return len(source.data), 0, hashlib.sha256(source.data).hexdigest()
        path, state = os.path.abspath(source), os.stat(source)
        size, time, _ = self.known.get(path, (None, None, ""))
        if (size, time) != (state.st_size, state.st_mtime_ns):
            self.known[path] = (state.st_size, state.st_mtime_ns, file_hash(path))
        return self.known[path]
