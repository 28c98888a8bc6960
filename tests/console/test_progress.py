"""The progress of long commands: a bar if stderr is a terminal, occasional lines if not."""

import ast
import io
import sys
from pathlib import Path

import pytest

import btcchat
from btcchat.console import progress as progress_module
from btcchat.console.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds since the start; a test moves them."""

    class Clock:
        now = 0.0

    monkeypatch.setattr(progress_module.time, "monotonic", lambda: Clock.now)
    return Clock


def printed(capsys) -> list[str]:
    out, err = capsys.readouterr()
    assert not out
    return err.splitlines()


def work(progress: Progress, clock, units: int, seconds: float) -> None:
    """Do ``units`` of work, one after another, in ``seconds``."""
    for _ in range(units):
        clock.now += seconds / units
        progress.update()


def test_a_short_run_prints_nothing(capsys, clock):
    with Progress("pairs", 1000) as progress:
        work(progress, clock, 1000, 9)
    assert printed(capsys) == []


def test_lines_are_ten_seconds_and_a_tenth_of_the_work_apart(capsys, clock):
    with Progress("pairs", 1200) as progress:
        work(progress, clock, 1200, 120)
    lines = printed(capsys)
    assert lines[0] == "btcchat: 120 of 1,200 pairs (10 %), 12 s, about 2 min left"
    assert len(lines) == 9  # none when all is done: the command itself says that
    with Progress("pairs", 100) as progress:
        work(progress, clock, 100, 20)
    assert printed(capsys) == ["btcchat: 50 of 100 pairs (50 %), 10 s, about 10 s left"]


def test_a_long_run_prints_at_most_a_line_per_minute(capsys, clock):
    with Progress("rows", 10**6) as progress:
        for _ in range(3600):  # an hour, in which 1 % is done
            clock.now += 1
            progress.update(2)
    lines = printed(capsys)
    assert len(lines) == 60
    assert lines[-1] == "btcchat: 7,200 of 1,000,000 rows (0 %), 60 min, about 137 h 53 min left"


def test_work_of_unknown_length_is_counted(capsys, clock):
    with Progress("records") as progress:
        work(progress, clock, 30, 30)
    assert printed(capsys) == ["btcchat: 10 records, 10 s", "btcchat: 20 records, 20 s", "btcchat: 30 records, 30 s"]


def test_work_of_an_earlier_run_does_not_count_for_the_time_left(capsys, clock):
    with Progress("pairs", 100, done=80) as progress:
        work(progress, clock, 10, 10)
    assert printed(capsys) == ["btcchat: 90 of 100 pairs (90 %), 10 s, about 10 s left"]


def test_another_piece_of_work_begins_at_zero(capsys, clock):
    with Progress("samples") as progress:
        progress.restart(10, "samples")
        work(progress, clock, 10, 50)
        capsys.readouterr()
        progress.restart(40, "samples of levir_cc:train")
        work(progress, clock, 10, 20)
    assert printed(capsys)[0] == "btcchat: 5 of 40 samples of levir_cc:train (12 %), 10 s, about 70 s left"


def test_a_callback_may_set_the_count(capsys, clock):
    with Progress("rows") as progress:
        for done in (1, 2, 3):
            clock.now += 11
            progress.reach(done, 5)
    assert printed(capsys)[-1] == "btcchat: 3 of 5 rows (60 %), 33 s, about 22 s left"


def test_a_process_that_is_not_the_first_prints_nothing(capsys, clock):
    with Progress("samples", 10, shown=False) as progress:
        work(progress, clock, 9, 900)
    assert printed(capsys) == []


def test_a_terminal_shows_a_bar_and_no_lines(monkeypatch, clock):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress("pairs", 4) as progress:
        work(progress, clock, 2, 100)
        progress.print("btcchat: error: a.png not found")
        progress.reach(4, 4)
    shown = sys.stderr.getvalue()
    assert "4/4" in shown and " pairs/s]" in shown and "btcchat: 2 of" not in shown
    assert "btcchat: error: a.png not found\n" in shown


def test_no_other_module_draws_a_bar():
    """One helper for all, so that no long command is silent in a log file."""
    for path in Path(btcchat.__file__).parent.rglob("*.py"):
        if path != Path(progress_module.__file__):
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            assert not any(isinstance(node, ast.ImportFrom) and node.module == "tqdm" for node in nodes), path
