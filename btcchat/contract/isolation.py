"""Checks have no side effects: the random numbers after a check are the same as without it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

SEED = 0  # the same numbers in every run, so that a check does not pass by chance


@contextmanager
def isolated(device: str = "cpu") -> Iterator[None]:
    """A block with random numbers of its own; new tensors are float32 on the CPU, and gradients are enabled."""
    before, numpy_before, dtype = random.getstate(), np.random.get_state(), torch.get_default_dtype()
    kind = torch.device(device).type
    devices = [torch.device(device)] if kind == "cuda" else []
    try:
        torch.set_default_dtype(torch.float32)
        with torch.random.fork_rng(devices, device_type="cuda"), torch.device("cpu"), torch.enable_grad():
            torch.manual_seed(SEED)
            random.seed(SEED)
            np.random.seed(SEED)
            yield
    finally:
        torch.set_default_dtype(dtype)
        random.setstate(before)
        np.random.set_state(numpy_before)
