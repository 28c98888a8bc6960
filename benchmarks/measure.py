"""Memory, machine and clock, for the benchmarks beside this file."""

import platform
import time
from pathlib import Path

import torch

STATUS, CLEAR, CPUINFO = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/cpuinfo")


def reset_peak(device: torch.device) -> float | None:
    """MiB in use now, from where the peak is counted; None where it cannot be read."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    elif CLEAR.exists():
        CLEAR.write_text("5")  # resets VmHWM, see proc(5)
    else:
        return None
    return memory(device, peak=False)


def memory(device: torch.device, peak: bool) -> float:
    """MiB."""
    if device.type == "cuda":
        return (torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()) / 2**20
    field = "VmHWM:" if peak else "VmRSS:"
    return next(int(line.split()[1]) / 1024 for line in STATUS.read_text().splitlines() if line.startswith(field))


def machine(device: torch.device) -> str:
    """The processor's or the GPU's name, and the threads used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    return f"{model}, {torch.get_num_threads()} threads"


class Clock:
    """``calls``: of each call of a part of a model its name, its seconds and the tokens of a row (0 but in ``llm``).

    ``llm`` is its decoder and, after that, its head: generation calls these two, and not the whole.
    """

    def __init__(self, model: torch.nn.Module):
        self.calls: list[tuple[str, float, int]] = []
        self._started: dict[str, float] = {}
        parts = dict(model.named_children())
        head = parts["llm"].get_output_embeddings()
        for name, part in (parts | {"llm": parts["llm"].get_decoder(), "head": head}).items():
            part.register_forward_pre_hook(lambda *_, name=name: self._started.update({name: time.perf_counter()}))
            part.register_forward_hook(lambda *call, name=name: self._stop(name, call[2]), with_kwargs=True)

    def _stop(self, name: str, options: dict) -> None:
        seconds = time.perf_counter() - self._started[name]
        if name == "head":
            name, before, tokens = self.calls.pop()
            self.calls.append((name, before + seconds, tokens))
            return
        given = [options[key] for key in ("inputs_embeds", "input_ids") if options.get(key) is not None]
        self.calls.append((name, seconds, given[0].shape[1] if given else 0))
