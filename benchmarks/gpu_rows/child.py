"""Run a row in a process of its own, so that a hang, a crash or a lack of memory affects no other row.

The parent calls `run_row`; the child runs `main`.
"""

import contextlib
import faulthandler
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from gpu_rows.setting import NotRunError, Setting

NOT_RUN = 77  # exit status; the reason is the last line on stderr


@dataclass(frozen=True)
class Row:
    """A part of the report. ``target`` is module:function, called with a Setting and ``options``; it yields Markdown.

    Each text replaces the previous one, so that a row that is stopped has still reported what it measured.
    """

    name: str
    title: str
    limit: float  # seconds
    target: str
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """The outcome of a row: "done", "failed: ...", "not run: ..." or "stopped at its limit of ..."."""

    row: Row
    outcome: str
    seconds: float = 0.0
    text: str = ""  # Markdown
    log: str = ""  # what the process wrote to stdout and stderr

    @property
    def failed(self) -> bool:
        return self.outcome.startswith(("failed", "stopped"))


def run_row(row: Row, setting: Setting, limit: float) -> Result:
    """Run a row for at most ``limit`` seconds."""
    begin = time.perf_counter()
    with TemporaryDirectory(prefix="gpu-row-") as folder:
        text, log = Path(folder, "text"), Path(folder, "log")
        job = {
            "target": row.target,
            "options": row.options,
            "setting": asdict(setting),
            "text": str(text),
            "limit": limit,
        }
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-u", "-m", "gpu_rows.child", json.dumps(job)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                _kill_group(process)
        written = log.read_text(encoding="utf-8", errors="replace")
        shown = text.read_text(encoding="utf-8") if text.is_file() else ""
    return Result(row, _outcome(status, limit, written), time.perf_counter() - begin, shown, written)


def _kill_group(process: subprocess.Popen) -> None:
    """Kill the process and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _outcome(status: int | None, limit: float, log: str) -> str:
    last = (log.strip().splitlines() or ["nothing was printed"])[-1]
    if status is None:
        return f"stopped at its limit of {limit:.0f} s"
    if status == NOT_RUN:
        return f"not run: {last}"
    if status < 0:
        return f"failed: killed by {signal.Signals(-status).name}"
    return "done" if status == 0 else f"failed: {last[:300]}"


def main(job: dict) -> int:
    """Run the target and keep its latest text in a file."""
    faulthandler.dump_traceback_later(max(job["limit"] - 1, 0.1))  # logs where the row was when it is stopped
    module, function = job["target"].split(":")
    text = Path(job["text"])
    try:
        measure = getattr(importlib.import_module(module), function)
        for latest in measure(Setting(**job["setting"]), **job["options"]):
            part = text.with_suffix(".part")
            part.write_text(latest, encoding="utf-8")
            part.replace(text)
    except NotRunError as reason:
        print(reason, file=sys.stderr)
        return NOT_RUN
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
