"""What a run measures between two log lines: loss, speed, memory."""

import sys
import time

import torch


class Meter:
    """Sums since the last log line and over the whole run; a checkpoint carries them on.

    ``add`` costs no synchronisation with a GPU. ``sums`` is over all processes, so every process must call it.
    """

    def __init__(self, device: torch.device, gather=lambda tensor: tensor):
        self.device, self.gather = device, gather
        self.total = {"loss": 0.0, "batches": 0.0}  # up to the last log line
        self._restart({})

    def _restart(self, window: dict) -> None:
        self._window = [window.get(key, 0.0) for key in ("loss", "batches", "samples", "tokens")]
        self._since = time.perf_counter() - window.get("seconds", 0.0)

    def add(self, loss: torch.Tensor, samples: int, tokens: int) -> None:
        """One batch: its mean loss, samples, and tokens with a label."""
        self._window = [old + new for old, new in zip(self._window, (loss, 1, samples, tokens), strict=True)]

    def sums(self) -> dict[str, float]:
        """``loss`` (sum of the batches' means), ``batches``, ``samples``, ``tokens``, ``seconds`` of the window."""
        here = torch.tensor([float(value) for value in self._window], device=self.device)  # (4,)
        everywhere = self.gather(here).view(-1, 4).sum(dim=0).tolist()
        names = ("loss", "batches", "samples", "tokens")
        return dict(zip(names, everywhere, strict=True)) | {"seconds": time.perf_counter() - self._since}

    def read(self) -> dict[str, float]:
        """The figures of a log line; the next one counts from here."""
        sums = self.sums()
        for key in self.total:
            self.total[key] += sums[key]
        self._restart({})
        return {
            "loss": round(sums["loss"] / max(sums["batches"], 1), 6),
            "samples_per_second": round(sums["samples"] / sums["seconds"], 2),
            "supervised_tokens_per_second": round(sums["tokens"] / sums["seconds"], 1),
        }

    def mean_loss(self) -> float:
        """Over the whole run."""
        sums = self.sums()
        return (self.total["loss"] + sums["loss"]) / max(self.total["batches"] + sums["batches"], 1)

    def state(self) -> dict:
        return {"window": self.sums(), "total": self.total}

    def load_state(self, state: dict, main_process: bool) -> None:
        """The sums are of all processes together; one of them takes them over."""
        self.total = dict(state["total"])
        window = state["window"]
        self._restart(window if main_process else {"seconds": window["seconds"]})


def peak_memory_gb(device: torch.device) -> float | None:
    """Largest memory so far in 1e9 bytes: CUDA's allocator, else this process (its data workers not counted)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
