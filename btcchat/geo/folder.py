"""The folder of a run and its run.json."""

import errno
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from btcchat.errors import BTCChatError
from btcchat.files import atomic_write, cannot_write, read_json, temporary_files, write_json
from btcchat.geo.settings import digest
from btcchat.limits.regular import check_utf8
from btcchat.outputs.lock import Lock, beside

RUN = "run.json"
MAKER = "btcchat scenes"
ANOTHER = "give another folder"
MAKE_ROOM = "make room, then run again with --resume"


def check(out: Path, *, resume: bool) -> None:
    """Check that a run can be written to the folder, before anything slow is done. Nothing is left there.

    Raises BTCChatError if it cannot be created or written, if another process writes it, for a folder of anything but
    a run, for one of a run without ``resume``, and for a path that is not UTF-8.
    """
    check_utf8(out, f"--out {out}")  # for GDAL, which writes the maps when all tiles are done
    parent = out.absolute().parent
    if not parent.is_dir():
        raise BTCChatError(f"the folder of --out does not exist: {parent}")
    lock(out).release()
    if out.exists():
        _record(out, resume=resume)


def lock(out: Path) -> Lock:
    return Lock(beside(out), f"--out {out}")


def prepare(out: Path, record: Mapping[str, Any], *, resume: bool) -> None:
    """Create the folder, or check that it holds the run ``record`` to resume. The caller has locked it.

    Raises BTCChatError as `check` does, and for the run of other settings.
    """
    make_folder(out)
    there = _record(out, resume=resume)
    if there is None:
        return
    if there.get("settings_hash") != record["settings_hash"]:
        differ = ", ".join(_different(there, record))
        raise BTCChatError(
            f"--out {out} has a run of other scenes, another model or other settings"
            f"{f' (different: {differ})' if differ else ''}; use the same ones to resume it, or give another folder"
        )
    for path in temporary_files(out):
        path.unlink(missing_ok=True)


def make_folder(out: Path) -> None:
    """Create the folder if there is none. Raises BTCChatError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise BTCChatError(f"--out {out} is not a folder; give another one") from error
    except OSError as error:
        raise cannot_write(f"--out {out}", error, ANOTHER) from error


def _different(there: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """The settings of two runs that differ by name; where all are equal, the parts of their records."""
    stored = there.get("settings")
    if isinstance(stored, dict):
        names = [name for name, value in record["settings"].items() if digest(stored.get(name)) != digest(value)]
        if names:
            return names
    differ = [name for name in ("dates", "model", "aoi", "files") if digest(there.get(name)) != digest(record[name])]
    return ["the scenes have been written since"] if differ == ["files"] else [one for one in differ if one != "files"]


def _record(out: Path, *, resume: bool) -> dict[str, Any] | None:
    """The record of the run that the folder holds; None if it is empty."""
    if not out.is_dir():
        raise BTCChatError(f"--out {out} is not a folder; give another one")
    try:
        names = {path.name for path in out.iterdir()}
        if not os.access(out, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise cannot_write(f"--out {out}", error, ANOTHER) from error
    if not names:
        return None
    record = read_json(out / RUN, way_out=ANOTHER) if RUN in names else {}
    if record.get("made_by") != MAKER:
        raise BTCChatError(f"--out {out} has other files in it; give a new folder")
    if not resume:
        raise BTCChatError(f"--out {out} already has a run in it; continue it with --resume, or give another folder")
    return record


def output(path: Path) -> AbstractContextManager[Path]:
    """`atomic_write` for a file that is built from the rows; a resumed run builds it again."""
    return atomic_write(path, sync=True, way_out=MAKE_ROOM)


def write_run(out: Path, record: dict[str, Any]) -> None:
    write_json(out / RUN, {"made_by": MAKER, **record}, way_out="give another --out", sync=True)
