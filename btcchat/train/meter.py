"""Measurements of a run between two log lines: loss, speed, memory."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from typing_extensions import TypedDict  # pydantic requires this one on Python < 3.12

METER = "meter.json"  # in a checkpoint: the counts that a resumed run continues


class Totals(TypedDict):
    """Sums up to the last log line."""

    loss: float  # sum of the batches' mean losses
    batches: float


class WindowSums(TypedDict):
    """Sums since the last log line, over all processes."""

    loss: float  # sum of the batches' mean losses
    batches: float
    samples: float
    tokens: float  # with a label
    seconds: float


class MeterState(TypedDict):
    """The state of a meter in a checkpoint."""

    window: WindowSums
    total: Totals


class Meter:
    """Sums since the last log line and over the whole run, which a resumed run continues.

    ``add`` does not synchronise with the GPU. ``sums`` is over all processes, so every process must call it.
    """

    def __init__(
        self, device: torch.device, gather: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor
    ) -> None:
        self.device, self.gather = device, gather
        self.total: Totals = {"loss": 0.0, "batches": 0.0}
        self._restart()

    def _restart(self, seconds: float = 0.0) -> None:
        """Start a window that has lasted for ``seconds`` already."""
        self._window: list[torch.Tensor | float] = [0.0, 0.0, 0.0, 0.0]  # loss, batches, samples, tokens
        self._since = time.perf_counter() - seconds

    def add(self, loss: torch.Tensor, samples: int, tokens: int) -> None:
        """One batch: its mean loss, samples, and tokens with a label."""
        batch: tuple[torch.Tensor | float, ...] = (loss, 1, samples, tokens)
        self._window = [old + new for old, new in zip(self._window, batch, strict=True)]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time of the block, in which nothing is trained."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - begin

    def sums(self) -> WindowSums:
        here = torch.tensor([float(value) for value in self._window], device=self.device)  # (4,)
        loss, batches, samples, tokens = self.gather(here).view(-1, 4).sum(dim=0).tolist()
        seconds = time.perf_counter() - self._since
        return {"loss": loss, "batches": batches, "samples": samples, "tokens": tokens, "seconds": seconds}

    def read(self) -> dict[str, float]:
        """The figures of a log line, and a fresh start for the next one."""
        sums = self.sums()
        self.total = {"loss": self.total["loss"] + sums["loss"], "batches": self.total["batches"] + sums["batches"]}
        self._restart()
        return {
            "loss": round(sums["loss"] / max(sums["batches"], 1), 6),
            "samples_per_second": round(sums["samples"] / sums["seconds"], 2),
            "supervised_tokens_per_second": round(sums["tokens"] / sums["seconds"], 1),
        }

    def mean_loss(self) -> float:
        """The mean loss over the whole run. Every process must call it."""
        sums = self.sums()
        return (self.total["loss"] + sums["loss"]) / max(self.total["batches"] + sums["batches"], 1)

    def state(self) -> MeterState:
        return {"window": self.sums(), "total": self.total}

    def load_state(self, state: MeterState, main_process: bool) -> None:
        """Continue from ``state``. Its sums are over all processes, so only the main process continues them."""
        self.total = {"loss": state["total"]["loss"], "batches": state["total"]["batches"]}
        window = state["window"]
        self._restart(window["seconds"])
        if main_process:
            self._window = [window["loss"], window["batches"], window["samples"], window["tokens"]]


def peak_memory_gb(device: torch.device) -> float | None:
    """Peak memory so far in 1e9 bytes: CUDA's allocator, else this process (without its data workers)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
