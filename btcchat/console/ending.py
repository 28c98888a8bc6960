"""How a command ends: an exception becomes one line and an exit code (docs/errors.md)."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from btcchat.errors import BTCChatError

DONE, BUG, BAD_INPUT, SOME_FAILED = 0, 1, 2, 3  # after signals: see signals.py


def run(command: Callable[[], int], complain: Callable[[str], None]) -> int:
    """Run ``command`` and return its exit code. ``complain`` reports an exception in one line; signals pass through.

    0 and 3 are returned by the command itself. 1 is an internal error, whose traceback is in a log file that the line
    names. 2 is bad input, too little memory or a full disk.
    """
    _open_streams()
    try:
        try:
            return command()
        finally:
            sys.stdout.flush()  # now, while a full disk can still be reported
    except Exception as error:  # noqa: BLE001 - nothing may escape
        fault = user_fault(error)
        _drop_unwritten()
        if isinstance(error, BrokenPipeError):  # the reader of our output, e.g. `head`, has stopped reading
            return DONE
        _say(complain, _internal(error) if fault is None else fault)
        return BUG if fault is None else BAD_INPUT


def user_fault(error: BaseException) -> str | None:
    """The message for an error caused by the input or the machine; None for a bug."""
    from concurrent.futures import BrokenExecutor

    text = _last_line(error)
    if isinstance(error, BTCChatError):
        return text
    if isinstance(error, OSError):
        reason = error.strerror or text
        return reason if error.filename is None else f"{error.filename}: {reason}"
    if isinstance(error, UnicodeError):
        return f"a file name or some text is not valid in its encoding ({text}); use UTF-8"
    if isinstance(error, RecursionError):
        return "the input is nested too deeply; flatten it"
    out_of_memory = any(words in text for words in ("allocate memory", "out of memory", "STATUS_ALLOC_FAILED"))
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and out_of_memory):
        return "not enough memory; use smaller inputs, a smaller batch or a smaller model"
    if isinstance(error, BrokenExecutor) or (isinstance(error, RuntimeError) and "is killed by signal" in text):
        return f"a worker process was killed, perhaps because memory ran out; use fewer workers ({text})"
    return None


def _internal(error: BaseException) -> str:
    """Write the log file for a bug, and return the line that names it."""
    import platform  # imported here: these take a tenth of the time of `btcchat --help`
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
    return f"{summary}; the traceback is in {path}. Please report this bug and attach that file"


def _last_line(error: BaseException) -> str:
    """The message of an error, without the traceback that a worker process adds to it."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    if lines[0].startswith("CUDA error: "):  # followed by advice for its developers
        return lines[0]
    return lines[-1].partition(f"{type(error).__name__}: ")[2] or lines[-1] if len(lines) > 1 else lines[0]


def _open_streams() -> None:
    """Replace closed streams by the null device, and write characters that their encoding lacks as escapes."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                os.fstat(number)  # the descriptor is in use by another file
                continue
            # Takes the free descriptor, so that no other file gets it.
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        _lenient(stream, "backslashreplace")
    _lenient(sys.stdin, "surrogateescape")


def _lenient(stream: TextIO, errors: str) -> None:
    if hasattr(stream, "reconfigure"):  # a replacement of the real stream may lack it
        with suppress(OSError, ValueError):
            stream.reconfigure(errors=errors)


def _drop_unwritten() -> None:
    """If stdout can no longer be written, discard what is buffered, so that Python does not fail on it at exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(complain: Callable[[str], object], message: str) -> None:
    with suppress(OSError, ValueError):  # stderr may be full or closed
        complain(message)
