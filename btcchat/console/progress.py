"""The progress of a long command on stderr: a tqdm bar on a terminal, occasional lines anywhere else.

In a log file, a batch job or a notebook, lines are at least 10 seconds apart, and each comes after another tenth of the
work or another minute, so that a job of many hours does not fill its log.
"""

import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from btcchat.errors import printable

if TYPE_CHECKING:
    from tqdm import tqdm as Bar

SECONDS = 10.0  # between two lines, at the least
SHARE = 0.1  # of the work after which a line is printed
SILENCE = 60.0  # seconds after which a line is printed, however little was done


class Progress:
    """Counts units of work: ``with Progress("pairs", total) as progress: progress.update()``.

    total: None if unknown. done: units that were done before this run. shown: False prints nothing, as in all processes
    of a launch except the first.
    """

    def __init__(self, unit: str, total: int | None = None, *, done: int = 0, shown: bool = True):
        self.unit, self.total, self.done, self.shown = printable(unit), total, done, shown
        self._bar: Bar[Any] | None = None
        if shown and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, unit=f" {self.unit}")
        self._begin()

    def _begin(self) -> None:
        self._start = self._last_time = time.monotonic()
        self._first = self._last_done = self.done

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def restart(self, total: int, unit: str) -> None:
        """Begin another piece of work, e.g. 6,815 "samples of levir_cc:train"."""
        self.total, self.done, self.unit = total, 0, printable(unit)
        self._begin()
        if self._bar is not None:
            self._bar.unit = f" {self.unit}"
            self._bar.reset(total)

    def update(self, units: int = 1) -> None:
        """Count ``units`` more as done."""
        self.done += units
        if self._bar is not None:
            self._bar.update(units)
        elif self.shown:
            self._maybe_print()

    def reach(self, done: int, total: int) -> None:
        """Set the count to ``done`` of ``total`` units, for callbacks that count by themselves."""
        self.total = total
        if self._bar is not None:
            self._bar.total = total
        self.update(done - self.done)

    def print(self, line: str, file: TextIO | None = None) -> None:
        """Print a line on stderr or to ``file``, above the bar if there is one."""
        file = sys.stderr if file is None else file
        if self._bar is None:
            file.write(f"{line}\n")
            file.flush()
        else:
            self._bar.write(line, file=file)

    def _maybe_print(self) -> None:
        now = time.monotonic()
        waited = now - self._last_time
        if waited < SECONDS or self.done == self.total:  # the command itself says when all is done
            return
        tenth = self.total is None or self.done - self._last_done >= SHARE * self.total
        if tenth or waited >= SILENCE:
            self._last_time, self._last_done = now, self.done
            sys.stderr.write(f"btcchat: {self._text(now - self._start)}\n")
            sys.stderr.flush()

    def _text(self, seconds: float) -> str:
        """``600 of 6,815 pairs (9 %), 41 s, about 7 min left``."""
        if not self.total:
            return f"{self.done:,} {self.unit}, {_duration(seconds)}"
        text = f"{self.done:,} of {self.total:,} {self.unit} ({100 * self.done // self.total} %), {_duration(seconds)}"
        new = self.done - self._first
        if new > 0:
            text += f", about {_duration(seconds * (self.total - self.done) / new)} left"
        return text


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
