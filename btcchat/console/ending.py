"""How a command ends: what escapes from it becomes one line and an exit code (docs/errors.md)."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from btcchat.errors import BTCChatError

DONE, BUG, BAD_INPUT, SOME_FAILED = 0, 1, 2, 3  # after signals: see signals.py


def run(command: Callable[[], int], complain: Callable[[str], None]) -> int:
    """The exit code of ``command``. What it raises is reported by ``complain``, in one line; signals pass through.

    0 or 3 are the command's own. 1 is an internal error, whose traceback is in a log file that the line names, 2 a
    fault of the input, of the machine's memory or of its disk.
    """
    _open_streams()
    try:
        try:
            return command()
        finally:
            sys.stdout.flush()  # now, where a full disk can still be reported
    except Exception as error:  # noqa: BLE001 - nothing may escape
        fault = user_fault(error)
        _drop_unwritten()
        if isinstance(error, BrokenPipeError):  # whoever read our output, e.g. `head`, has had enough
            return DONE
        _say(complain, _internal(error) if fault is None else fault)
        return BUG if fault is None else BAD_INPUT


def user_fault(error: BaseException) -> str | None:
    """What is said of an error that is due to the input or the machine; None for a bug."""
    from concurrent.futures import BrokenExecutor

    text = _last_line(error)
    if isinstance(error, BTCChatError):
        return text
    if isinstance(error, OSError):
        reason = error.strerror or text
        return reason if error.filename is None else f"{error.filename}: {reason}"
    if isinstance(error, UnicodeError):
        return f"a text or the name of a file is not valid in its encoding ({text}); write it in UTF-8"
    if isinstance(error, RecursionError):
        return "the input is nested too deeply; flatten it"
    out_of_memory = isinstance(error, RuntimeError) and ("allocate memory" in text or "out of memory" in text)
    if isinstance(error, MemoryError) or out_of_memory:
        return "not enough memory; use smaller inputs, a smaller batch or a smaller model"
    if isinstance(error, BrokenExecutor) or (isinstance(error, RuntimeError) and "is killed by signal" in text):
        return f"a worker process was killed, perhaps for lack of memory; use fewer workers ({text})"
    return None


def _internal(error: BaseException) -> str:
    """The line for a bug, and the log file that it names."""
    import platform  # here, as these take a tenth of the time of `btcchat --help`
    import tempfile
    import traceback

    summary = f"internal error, {type(error).__name__}: {_last_line(error)}"
    report = f"{' '.join(map(repr, sys.argv))}\nPython {platform.python_version()}, {platform.platform()}\n\n"
    report += "".join(traceback.format_exception(error))
    try:
        handle, path = tempfile.mkstemp(prefix="btcchat-", suffix=".log")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(report)
    except OSError as fault:
        return f"{summary}; no log could be written ({fault.strerror}). Please report this bug with the command"
    return f"{summary}; the traceback is in {path}. Please report this bug with that file"


def _last_line(error: BaseException) -> str:
    """The message; of an error that a worker process raised, without that process's traceback."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    return lines[-1].partition(f"{type(error).__name__}: ")[2] or lines[-1] if len(lines) > 1 else lines[0]


def _open_streams() -> None:
    """Streams that were closed lead nowhere, and what their encoding has no bytes for is written as an escape."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                os.fstat(number)  # the number is in use all the same
                continue
            # Takes the free number, so that no other file gets it.
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        _lenient(stream, "backslashreplace")
    _lenient(sys.stdin, "surrogateescape")


def _lenient(stream: TextIO, errors: str) -> None:
    if hasattr(stream, "reconfigure"):  # a stream that was put in the place of the real one may lack it
        with suppress(OSError, ValueError):
            stream.reconfigure(errors=errors)


def _drop_unwritten() -> None:
    """Where stdout takes nothing any more, what Python still holds for it leads nowhere, also when Python ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(complain: Callable[[str], object], message: str) -> None:
    with suppress(OSError, ValueError):  # stderr may be full or closed
        complain(message)
