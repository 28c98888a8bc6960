"""The source of an image or a video: a file, or bytes inside another file."""

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from btcchat.errors import BTCChatError
from btcchat.limits.regular import NOT_REGULAR, regular

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".j2k", ".avif", ".ppm",
    ".pgm",
)  # fmt: skip
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv")


@dataclass(frozen=True)
class Embedded:
    """A file that is inside another: in a column of a Parquet file, or in a tar shard."""

    name: str  # for messages
    data: bytes

    def open(self, mode: str = "rb") -> io.BytesIO:
        return io.BytesIO(self.data)

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.name)[1]

    def __str__(self) -> str:
        return self.name


FileLike: TypeAlias = str | os.PathLike[str] | Embedded  # types that specify a file


def existing_file(source: FileLike, kind: str) -> Path | Embedded:
    """The path of a non-empty regular file. Raises BTCChatError with the reason if it is not one."""
    if isinstance(source, Embedded):
        if not source.data:
            raise BTCChatError(f"{kind} '{source}' is empty (0 bytes)")
        return source
    path = Path(source)
    if str(source).startswith("/vsi"):
        raise BTCChatError(f"{kind} '{source}' is a path of GDAL's own file systems; save it to a file and give that")
    if "://" in str(source):
        raise BTCChatError(f"{kind} '{source}' is an address; download it and give the file")
    try:
        regular(path)
    except IsADirectoryError:
        hint = "; a folder of frames is a series or a video" if kind == "image" else ""
        raise BTCChatError(f"{kind} '{path}' is a folder, but a file is expected{hint}") from None
    except (FileNotFoundError, NotADirectoryError):
        where = "" if path.is_absolute() else f" (looked in {Path.cwd()})"
        raise BTCChatError(f"{kind} '{path}' not found{where}") from None
    except OSError as error:
        way_out = "; save it to one" if error.strerror == NOT_REGULAR else ""
        raise BTCChatError(f"{kind} '{str(path)[:80]}' cannot be read: {error.strerror}{way_out}") from None
    if path.stat().st_size == 0:
        raise BTCChatError(f"{kind} '{path}' is empty (0 bytes)")
    return path


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """The image files of a folder in natural order (frame2 before frame10); other and hidden files are ignored."""
    try:
        paths = list(Path(folder).iterdir())
    except OSError as error:
        raise BTCChatError(f"folder '{folder}' cannot be read: {error.strerror}") from None
    files = [p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    return sorted(files, key=lambda path: natural_key(path.name))


def natural_key(name: str) -> list[int | str]:
    """Sort key under which runs of digits count as numbers."""
    return [int(part[:4000]) if i % 2 else part.lower() for i, part in enumerate(re.split(r"([0-9]+)", name))]
