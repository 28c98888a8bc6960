"""Inputs and outputs must be regular files: a FIFO would block, and a device never ends.

Anything else raises an OSError with a reason, like a file that does not exist, so that callers report both alike.
"""

import errno
import os
import stat
from pathlib import Path

from btcchat.errors import BTCChatError

NOT_REGULAR = "not a regular file"


def regular(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` if it is a regular file or a link to one. Raises OSError if not."""
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    return Path(path)


def writable(path: str | os.PathLike[str], *, appended: bool = False) -> Path:
    """Return ``path`` if a file may be written there: it is a regular file, or does not exist. Raises OSError if not.

    appended: an existing file is appended to and not replaced, so it must not be a link to a file in another folder.
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
    """The bytes of a regular file. Raises OSError if it is not one, or is larger than ``most`` bytes."""
    with regular(path).open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))
    return data


def check_utf8(path: str | os.PathLike[str], name: str) -> None:
    """Raise BTCChatError, which begins with ``name``, for a path that is not UTF-8, as GDAL and Arrow need it."""
    for part in Path(path).parts:
        try:
            part.encode()
        except UnicodeEncodeError:
            raise BTCChatError(f"{name}: '{part}' in its path is not UTF-8; rename it, or give another path") from None


def nameable(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` if a file can have this name. Raises BTCChatError if not."""
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
