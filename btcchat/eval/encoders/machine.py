"""The machine used for measuring: its name, its load, the memory in use."""

import os
import platform
from pathlib import Path

import torch

STATUS, CLEAR, CPUINFO = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/cpuinfo")


def reset_peak(device: torch.device) -> float | None:
    """Reset the peak and return the MiB in use now; None if it cannot be read."""
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


def load_average() -> float | None:
    """Processes that were running or waiting in the last minute; None if the system does not report it (Windows)."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
