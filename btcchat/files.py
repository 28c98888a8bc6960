"""Files: atomic writes, JSON, and JSON lines (JSONL). All code that reads or writes JSON is here."""

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from btcchat.errors import BTCChatError
from btcchat.limits.regular import read_bounded, regular, writable
from btcchat.outputs.lock import Lock, beside

logger = logging.getLogger(__name__)

TEMPORARY = ".part"  # suffix of a file that is still being written
REPAIR = "correct the file or get it again"  # after a file that is not JSON
MOST_JSON = 2**28  # bytes of a JSON file, and of a line of JSONL
KINDS = {type(None): "null", bool: "true or false", str: "a string", list: "a list", dict: "an object"}


# -- atomic writes ---------------------------------------------------------------------------------------------------


@contextmanager
def atomic_write(path: str | Path, *, name: str | None = None, way_out: str = "", sync: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``, which replaces ``path`` when the block ends.

    After any exception, including an interrupt, the temporary file is removed and ``path`` is unchanged. The temporary
    name is unique, so any number of processes may write one file. Missing folders are created.

    name: what an error calls the file (default: the path). way_out: what the user can do about the error.
    sync: the file is on disk before it gets its name. Raises BTCChatError for an OSError of this file.
    """
    path = Path(path)
    try:
        writable(path)
    except OSError as error:
        raise cannot_write(name or path, error, way_out) from error
    part = path.with_name(f".{path.name[:40]}.{uuid4().hex}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch(exist_ok=False)
        mode = part.stat().st_mode  # set by the umask; some libraries (safetensors) write for the owner only
        yield part
        if sync:
            with part.open("r+b") as file:
                os.fsync(file.fileno())
        if part.stat().st_mode != mode:
            part.chmod(mode)
        part.replace(path)
    except OSError as error:
        if _names_another(error, path, part):
            raise
        raise cannot_write(name or path, error, way_out) from error
    finally:
        with suppress(OSError):
            part.unlink()


def temporary_files(folder: Path) -> list[Path]:
    """Temporary files of `atomic_write` in ``folder``: left by killed processes, or being written now.

    With those that SQLite and GDAL keep beside them: .x.part-journal, .x.part.ovr.tmp.
    """
    return list(folder.glob(f".*{TEMPORARY}*"))


def cannot_write(name: str | Path, error: OSError, way_out: str = "") -> BTCChatError:
    """The error for a file that cannot be written."""
    return BTCChatError(f"{name} cannot be written: {_reason(error)}{_then(way_out)}")


def check_new_folder(path: Path) -> None:
    """Raise BTCChatError if ``path`` exists and is not an empty folder, or if no folder can be created there."""
    try:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise BTCChatError(f"{path} already exists; give a new folder")
        above = next(parent for parent in path.absolute().parents if parent.exists())
    except OSError as error:
        raise BTCChatError(f"{path} cannot be read: {_reason(error)}; give another folder") from None
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise BTCChatError(f"{path} cannot be created: {above} is not a writable folder; give another folder")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to write into, which becomes the new folder ``path`` when the block ends, or nothing.

    Raises BTCChatError as `check_new_folder` does, if another process is writing there, or if the disk fills up while
    writing.
    """
    check_new_folder(path)
    temporary = path.with_name(f".{path.name[:40]}.{uuid4().hex}{TEMPORARY}")
    try:
        temporary.mkdir(parents=True)
        with Lock(beside(path), str(path)):
            yield temporary
            if path.exists():
                path.rmdir()
            temporary.rename(path)
    except OSError as error:
        if _names_another(error, path, temporary):
            raise
        raise cannot_write(path, error, "free some space, or give another folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# -- JSON ------------------------------------------------------------------------------------------------------------


def parse_json(data: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises BTCChatError "not JSON (why)" or "not UTF-8 (...)", without a name."""
    try:
        return json.loads(data.rstrip().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BTCChatError(f"not UTF-8 (byte {error.start + 1}; save it as UTF-8)") from None
    except (ValueError, RecursionError) as error:
        raise BTCChatError(f"not JSON ({why_not_json(error)})") from None


def why_not_json(error: ValueError | RecursionError) -> str:
    """The error of `json` in a few words."""
    if isinstance(error, json.JSONDecodeError):
        place = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        return f"{error.msg}, {place}"
    # Python raises a plain ValueError for a number that is too long to convert.
    return "nested too deeply" if isinstance(error, RecursionError) else "a number with too many digits"


def json_kind(value: object) -> str:
    """The kind of a JSON value, for an error: "a list", "a number"; of any other value, the name of its type."""
    return KINDS.get(type(value)) or ("a number" if isinstance(value, int | float) else type(value).__name__)


def read_json(path: str | Path, *keys: str, schema: Any = None, missing: str = "", way_out: str = "") -> dict[str, Any]:
    """The JSON object in a file. keys: those it must have. schema: a TypedDict to check it against.

    missing: ends the error for a file that does not exist (default: way_out). way_out: ends any other error.
    Raises BTCChatError, one line that begins with ``path``.
    """
    try:
        data = read_bounded(path, MOST_JSON)
    except FileNotFoundError:
        raise BTCChatError(f"{path} is missing{_then(missing or way_out)}") from None
    except OSError as error:
        raise BTCChatError(f"{path} cannot be read: {_reason(error)}{_then(way_out)}") from error
    try:
        value = parse_json(data)
    except BTCChatError as error:
        raise BTCChatError(f"{path} is {error}{_then(way_out or REPAIR)}") from None
    if not isinstance(value, dict):
        raise BTCChatError(f"{path} holds {json_kind(value)}, expected an object {{...}}{_then(way_out)}")
    for key in keys:
        if key not in value:
            raise BTCChatError(f"{path} has no '{key}'{_then(way_out)}")
    if schema is not None:
        from btcchat.limits.schema import check  # pydantic

        check(value, schema, str(path), way_out)
    return value


def write_json(
    path: str | Path, value: object, *, sort_keys: bool = False, way_out: str = "", sync: bool = False
) -> None:
    """Write ``value`` as indented JSON, by `atomic_write`."""
    text = json.dumps(value, indent=2, sort_keys=sort_keys, ensure_ascii=False)
    with atomic_write(path, way_out=way_out, sync=sync) as part:
        part.write_bytes(_encoded(text))


# -- JSON lines ------------------------------------------------------------------------------------------------------


def json_line(row: dict[str, Any]) -> bytes:
    """A row of a JSONL file, with its newline."""
    return _encoded(json.dumps(row, ensure_ascii=False))


def write_rows(path: str | Path, rows: Iterable[dict[str, Any]], *, way_out: str = "", sync: bool = False) -> None:
    """Write a JSONL file, by `atomic_write`."""
    with atomic_write(path, way_out=way_out, sync=sync) as part, part.open("wb") as file:
        file.writelines(map(json_line, rows))


def read_rows(
    path: str | Path, fault: str | None = None, *, whole: bool = False
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row) of every line of a JSONL file that is not blank.

    A kill may have truncated the last line of a file that an `Appender` writes; this line is skipped. whole: the file
    has another origin, so its last line must be a row too, with or without a newline.
    Raises BTCChatError with path and line number for a line that is not a JSON object; ``fault`` replaces the reason.
    """
    try:
        with regular(path).open("rb") as file:
            for number, line in enumerate(bounded_lines(file, str(path)), start=1):
                if not whole and not line.endswith(b"\n") and (line.startswith(b'{"') or line == b"{"):
                    return
                if line.strip():
                    yield number, _row(line, f"{path} line {number}", fault)
    except OSError as error:
        raise BTCChatError(f"{path} cannot be read: {_reason(error)}") from error


def bounded_lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    """The lines of a file. Raises BTCChatError for one of more than MOST_JSON bytes, which is not held in memory."""
    for number in count(1):
        line = file.readline(MOST_JSON + 1)
        if len(line) > MOST_JSON:
            raise BTCChatError(f"{name} line {number} is longer than {MOST_JSON:,} bytes; write one object per line")
        if not line:
            return
        yield line


def _row(line: bytes, where: str, fault: str | None) -> dict[str, Any]:
    try:
        row = parse_json(line)
    except BTCChatError as error:
        raise BTCChatError(f"{where} {fault}" if fault else f"{where}: {error}; expected one object per line") from None
    if not isinstance(row, dict):
        got = f": got {json_kind(row)}, expected one object {{...}} per line"
        raise BTCChatError(f"{where} {fault}" if fault else f"{where}{got}")
    return row


class Appender:
    """Appends rows to a JSONL file, so that a run that was killed can read them with `read_rows` and continue.

    Anything after the last complete line is dropped when the file is opened. ``name`` and ``way_out`` as in
    `atomic_write`. The caller must lock the file. Raises BTCChatError if it cannot be written or has no complete row.
    """

    def __init__(self, path: str | Path, *, name: str | None = None, way_out: str = "") -> None:
        self._path, self._name, self._way_out = Path(path), name or str(path), way_out
        try:
            self._file = writable(self._path, appended=True).open("ab", buffering=0)
            self._drop_unfinished_line()
        except OSError as error:
            raise cannot_write(self._name, error, way_out) from error

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write all rows, or none of them; returns when they are on disk."""
        data = memoryview(b"".join(map(json_line, rows)))
        end = os.fstat(self._file.fileno()).st_size
        try:
            while data:  # a disk that is nearly full takes only part of it
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(end)
            raise cannot_write(self._name, error, self._way_out) from error

    def close(self) -> None:
        self._file.close()

    def _drop_unfinished_line(self) -> None:
        with self._path.open("rb") as file:
            whole = sum(len(line) for line in file if line.endswith(b"\n"))
        size = self._path.stat().st_size
        if size and not whole:  # e.g. a JSON file of one line: it may not be ours
            raise BTCChatError(f"{self._name} has no complete row and may be another file; remove it or give another")
        if whole < size:
            logger.warning("%s: its last line was cut short when a run was stopped, so it is dropped", self._path)
            self._file.truncate(whole)


def _names_another(error: OSError, path: Path, temporary: Path) -> bool:
    """Whether an error while writing ``path`` is about another file, e.g. one that is being read."""
    if error.filename is None:
        return False
    file = Path(str(error.filename))
    return not (file.is_relative_to(temporary) or file in (path, *path.parents))


def _encoded(text: str) -> bytes:
    """``text`` and a newline in UTF-8; a lone surrogate, which UTF-8 cannot encode, becomes a JSON escape."""
    return f"{text}\n".encode("utf-8", "backslashreplace")


def _reason(error: OSError) -> str:
    return error.strerror or " ".join(str(error).split())  # some libraries raise OSErrors without strerror


def _then(way_out: str) -> str:
    return f"; {way_out}" if way_out else ""
