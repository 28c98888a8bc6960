"""btcchat.console.ending: one line and an exit code for any exception of a command."""

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from btcchat.console import ending
from btcchat.errors import BTCChatError


def ended(error: BaseException | None = None, code: int = 0) -> tuple[int, list[str]]:
    """Exit code and lines of a command that raises ``error``."""
    lines: list[str] = []

    def command() -> int:
        if error is not None:
            raise error
        return code

    return ending.run(command, lines.append), lines


WORKER = (
    "Caught KeyError in DataLoader worker process 0.\nTraceback (most recent call last):\n  File x\nOSError: full disk"
)
CUDA = (
    "CUDA error: {}\nCUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace "
    "below might be incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\nCompile with "
    "`TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)
INPUT = [
    (BTCChatError("a.png is empty"), "a.png is empty"),
    (OSError(28, "No space left on device", "/out/a"), "/out/a: No space left on device"),
    (PermissionError(13, "Permission denied", "a"), "a: Permission denied"),
    (OSError("broken header"), "broken header"),
    (OSError(WORKER), "full disk"),
    (UnicodeEncodeError("ascii", "ä", 0, 1, "ordinal not in range"), "not valid in its encoding"),
    (RecursionError("maximum depth"), "nested too deeply"),
    (MemoryError(), "not enough memory"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "not enough memory"),
    (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory"),
    (RuntimeError(CUDA.format("out of memory")), "not enough memory"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "not enough memory"),
    (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "a worker process was killed"),
    (BrokenProcessPool("A process in the process pool was terminated abruptly"), "use fewer workers"),
]


@pytest.mark.parametrize(
    ("error", "words"), INPUT, ids=[f"{type(error).__name__}{i}" for i, (error, _) in enumerate(INPUT)]
)
def test_a_fault_of_the_input_or_the_machine_is_one_line_and_exit_code_2(error, words):
    code, [line] = ended(error)
    assert code == 2 and words in line and "\n" not in line


def test_a_bug_is_one_line_that_names_a_log_with_the_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code, [line] = ended(KeyError("frames"))
    assert code == 1 and line.startswith("internal error, KeyError: 'frames'") and "report" in line
    log = Path(re.search(r"traceback is in (\S+\.log)", line)[1])
    assert "Traceback" in log.read_text() and "KeyError: 'frames'" in log.read_text()


def test_an_error_of_cuda_is_named_without_its_advice_on_debugging(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code, [line] = ended(RuntimeError(CUDA.format("an illegal memory access was encountered")))
    assert (
        code == 1 and "RuntimeError: CUDA error: an illegal memory access was encountered; the traceback is in" in line
    )


def test_a_bug_on_a_full_disk_still_ends_in_a_line(monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    code, [line] = ended(KeyError("frames"))
    assert code == 1 and "no log could be written (No space left on device)" in line


def test_the_exit_code_of_a_command_is_its_own():
    assert ended(code=3) == (3, [])
    with pytest.raises(SystemExit):
        ended(SystemExit(143))


@pytest.mark.parametrize(
    ("words", "code", "stderr"),
    [
        ("--version >/dev/full", 2, "No space left on device"),
        ("--help >/dev/full", 2, "No space left on device"),
        ("caption --help >/dev/full", 2, "No space left on device"),
        ("data >/dev/full", 2, "No space left on device"),
        ("--help | true; exit ${PIPESTATUS[0]}", 0, ""),
        ("--help >&-", 0, ""),
        ("data list >/dev/full", 2, "No space left on device"),
        ("data list >&-", 0, ""),
        ("data list 2>&-", 0, ""),
        ("data nothing 2>/dev/full", 2, ""),
        ("data nothing >&- 2>&- <&-", 2, ""),
        ("data list | true; exit ${PIPESTATUS[0]}", 0, ""),
        ("plugins --plugin $'\\xff'", 2, "udcff"),
    ],
)
def test_a_command_survives_streams_that_are_full_closed_or_ascii(words, code, stderr):
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m btcchat {words}"], capture_output=True, env=environment, text=True
    )
    assert done.returncode == code, done
    assert stderr in done.stderr and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
