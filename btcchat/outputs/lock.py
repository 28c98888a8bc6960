"""Locks that keep two runs from writing one output: a file that names the writing process and its machine."""

import atexit
import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from btcchat.errors import BTCChatError

WAIT = "wait for it, or give another one"


class Owner(NamedTuple):
    pid: int
    host: str


class Lock:
    """Holds the lock file ``path`` until `release`, or until its process ends, however it ends.

    A lock left by a dead process of this machine is taken over. Whether a process on another machine still runs cannot
    be checked, so its lock stays until the file is removed. name: the output, as errors call it. way_out: what errors
    suggest. Raises BTCChatError if another process holds the lock. (Windows has no flock, so nothing is locked there.)
    """

    def __init__(self, path: Path, name: str, way_out: str = WAIT) -> None:
        self.path = path
        self._file = _acquire(path, name, way_out)
        _held.add(self)

    def holds(self) -> bool:
        """Whether the lock file still exists; it is gone once its folder is deleted."""
        return _is_at(self._file, self.path)

    def release(self) -> None:
        if self in _held:
            _held.discard(self)
            if self.holds():
                with suppress(OSError):
                    self.path.unlink()
            os.close(self._file)

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def beside(output: Path) -> Path:
    """The path of the lock file for an output file, or for a folder that does not exist yet."""
    output = output.resolve()  # the same lock, whichever link leads to the output
    name = output.name
    if len(name) > 40:
        import hashlib

        name = f"{name[:40]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
    return output.with_name(f".{name}.lock")


def check_free(path: Path, name: str, way_out: str = WAIT) -> None:
    """Raise BTCChatError if another process holds the lock file ``path``; remove a lock left by a dead process."""
    if path.exists():
        Lock(path, name, way_out).release()


_held: set[Lock] = set()


def _release_all() -> None:
    for lock in list(_held):
        lock.release()


def _forget() -> None:
    """In a forked child: close the locks of its parent, which would otherwise be held until the child ends."""
    for lock in _held:
        os.close(lock._file)
    _held.clear()


atexit.register(_release_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _acquire(path: Path, name: str, way_out: str) -> int:
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise BTCChatError(f"{name} cannot be written: {error.strerror} ({path})") from error
        try:
            owner = _owner(file)
            if not _flock(file, owner):
                raise BTCChatError(f"{name} is being written by {_words(owner)}; {way_out}")
            if owner is not None and owner.host != socket.gethostname():
                gone = f"if that process is gone, remove {path}"
                raise BTCChatError(f"{name} is being written by {_words(owner)}; {way_out}, or, {gone}")
            if _is_at(file, path):  # else it was released, and so deleted, before we locked it
                _claim(file, path, name)
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _claim(file: int, path: Path, name: str) -> None:
    """Write this process into a lock that it holds, or remove the lock."""
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(Owner(os.getpid(), socket.gethostname())._asdict()).encode(), 0)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise BTCChatError(f"{name} cannot be written: {error.strerror}; free some space") from error


def _flock(file: int, owner: Owner | None) -> bool:
    """Try to lock the file; False if another process holds it."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: check whether the process still runs
        return owner is None or owner.host != socket.gethostname() or not _runs(owner.pid)
    return True


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it runs, but belongs to another user
        return True
    return True


def _owner(file: int) -> Owner | None:
    try:
        owner = json.loads(os.pread(file, 1000, 0))
        return Owner(int(owner["pid"]), str(owner["host"]))
    except (ValueError, KeyError, TypeError):  # empty, or not a lock's content
        return None


def _words(owner: Owner | None) -> str:
    return "another process" if owner is None else f"process {owner.pid} on {owner.host}"


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False
