"""The folder of a run and its run.json."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from btcchat.errors import BTCChatError
from btcchat.files import atomic_write, cannot_write, read_json, temporary_files, write_json

RUN = "run.json"
MAKER = "btcchat scenes"
MAKE_ROOM = "make room, then run again with --resume"


def prepare(out: Path, settings: str, *, resume: bool) -> None:
    """Create the folder, or check that it holds the run to resume. The caller has locked it.

    Raises BTCChatError for a folder of anything else, and for one of this run without ``resume``.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in out.iterdir()}
    except OSError as error:
        raise cannot_write(f"--out {out}", error, "give another folder") from error
    if not names:
        return
    record = read_json(out / RUN, way_out="give another folder") if RUN in names else {}
    if record.get("made_by") != MAKER:
        raise BTCChatError(f"--out {out} has other files in it; give a new folder")
    if not resume:
        raise BTCChatError(f"--out {out} already has a run in it; continue it with --resume, or give another folder")
    if record.get("settings_hash") != settings:
        raise BTCChatError(
            f"--out {out} has a run of other scenes, another model or other settings; give another folder"
        )
    for path in temporary_files(out):
        path.unlink(missing_ok=True)


def output(path: Path) -> AbstractContextManager[Path]:
    """`atomic_write` for a file that is built from the rows; a resumed run builds it again."""
    return atomic_write(path, sync=True, way_out=MAKE_ROOM)


def write_run(out: Path, record: dict[str, Any]) -> None:
    write_json(out / RUN, {"made_by": MAKER, **record}, way_out="give another --out", sync=True)
