"""A model that compares grey levels and answers immediately, for tests of everything around it."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SIDE = 16  # patches


class StubModel:
    """The distance of two dates is that of their mean grey levels. ``questions`` collects what it was asked."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.questions, self.calls, self.stop_after = [], 0, stop_after

    def see(self, dates):
        return dates

    def distances(self, dates, pairs):
        if self.stop_after is not None and self.calls >= self.stop_after:
            raise KeyboardInterrupt
        self.calls += 1
        patches = [[self.patches(frame) for frame in frames] for frames in dates]
        return np.array([[np.abs(of[a] - of[b]) for a, b in pairs] for of in patches])

    def patches(self, frame):
        grey = np.asarray(frame, np.float32).mean(axis=2) / 255
        side = len(grey) // SIDE * SIDE
        return grey[:side, :side].reshape(SIDE, side // SIDE, SIDE, side // SIDE).mean(axis=(1, 3))

    def answers(self, dates, questions):
        shown = [(question, [dates[tile][date] for date in of]) for tile, of, question in questions]
        self.questions += shown
        return [question or self.caption(frames) for question, frames in shown]

    def caption(self, frames):
        before, after = (self.patches(frame) for frame in (frames[0], frames[-1]))
        changed = np.abs(after - before).max() > 0.2
        return "a house was built on the right ." if changed else "nothing has changed ."


class Killed(StubModel):
    """The first worker to reach its second batch is killed, once."""

    def __init__(self, flag: Path) -> None:
        super().__init__()
        self.flag = flag

    def distances(self, dates, pairs):
        if self.calls == 1 and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().distances(dates, pairs)


@dataclass(frozen=True)
class LoadKilled:
    flag: Path

    def __call__(self) -> StubModel:
        return Killed(self.flag)


class Slow(StubModel):
    """Takes ``seconds`` for a batch."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def distances(self, dates, pairs):
        time.sleep(self.seconds)
        return super().distances(dates, pairs)


@dataclass(frozen=True)
class LoadSlow:
    seconds: float

    def __call__(self) -> StubModel:
        return Slow(self.seconds)
