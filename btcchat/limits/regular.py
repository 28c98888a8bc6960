"""Inputs and outputs are regular files: a FIFO would block, and a device has no end.

A fault is an OSError with a reason, as of a file that does not exist, so whoever reports the one reports the other.
"""

import errno
import os
import stat
from pathlib import Path

from btcchat.errors import BTCChatError

NOT_REGULAR = "not a regular file"


def regular(path: str | os.PathLike[str]) -> Path:
    """``path``, where it is a regular file or a link to one. Raises OSError."""
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    return Path(path)


def writable(path: str | os.PathLike[str], *, appended: bool = False) -> Path:
    """``path``, where a file may be written: nothing is there, or a regular file. Raises OSError.

    appended: what is there is not replaced but added to, so it must not be a link that leads out of its folder.
    """
    path = Path(path)
    try:
        regular(path)
    except FileNotFoundError:
        if not path.is_symlink():
            return path
    if appended and path.is_symlink() and path.resolve().parent != path.parent.resolve():
        raise OSError(errno.ELOOP, f"a link to {path.resolve()}, which is in another folder", str(path))
    return path


def read_bounded(path: str | os.PathLike[str], most: int) -> bytes:
    """The bytes of a regular file of at most ``most`` bytes. Raises OSError."""
    with regular(path).open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))
    return data


def nameable(path: str | os.PathLike[str]) -> Path:
    """``path``, where something can have this name. Raises BTCChatError."""
    try:
        _mode(path)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENAMETOOLONG):
            raise BTCChatError(f"{str(path)[:80]!a} cannot be written: {error.strerror}") from None
    return Path(path)


def _mode(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_mode
    except ValueError:  # a zero byte, or half of a surrogate pair
        raise OSError(errno.EINVAL, "no file can have this name", str(path)) from None
