"""Estimate how long the training runs will take: run a few steps of the training of each encoder, and extrapolate."""

import shutil
import statistics
import time
from dataclasses import dataclass

from btcchat.eval.encoders.plan import ComparedEncoder, ComparisonPlan
from btcchat.train.flags import parse_arguments
from btcchat.train.presets import to_argv
from btcchat.train.train import train
from btcchat.train.trainer import Hook, Trainer

STEPS = 3  # the first of them is not counted


@dataclass(frozen=True)
class Estimate:
    """One training run: its steps, the seconds of one step, and the seconds before the first and after the last."""

    steps: int
    step_seconds: float
    other_seconds: float

    @property
    def seconds(self) -> float:
        return self.steps * self.step_seconds + self.other_seconds


class _Stop(Hook):
    """Record when each step ends, and stop the training after STEPS."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def begin(self, trainer: Trainer) -> None:
        self.ends.append(time.perf_counter())

    def after_step(self, trainer: Trainer) -> None:
        self.ends.append(time.perf_counter())
        trainer.stop = trainer.state.global_step >= STEPS


def estimate(plan: ComparisonPlan, encoder: ComparedEncoder) -> Estimate:
    """Estimate one seed of ``encoder``; the files that it writes are deleted."""
    folder, clock = plan.out / ".timing" / encoder.folder, _Stop()
    shutil.rmtree(folder, ignore_errors=True)
    begin = time.perf_counter()
    try:
        flags = plan.training(encoder, 0, folder) | {"logging_steps": 1_000_000}
        trainer = train(*parse_arguments(to_argv(flags)), hooks=[clock])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    whole = time.perf_counter() - begin
    steps = [end - start for start, end in zip(clock.ends, clock.ends[1:], strict=False)]
    return Estimate(trainer.num_steps(), statistics.median(steps[1:] or steps), whole - sum(steps))


def in_words(seconds: float) -> str:
    """``95`` -> ``2 minutes``."""
    if seconds < 90:
        whole = max(1, round(seconds))
        return f"{whole} second{'s' * (whole > 1)}"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
