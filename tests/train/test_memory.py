"""A training on a CPU gives free memory back."""

import ctypes
import platform
from types import SimpleNamespace

import pytest
import torch

from btcchat.train import memory
from btcchat.train.memory import EVERY, ReturnMemory, malloc_trim


def run(monkeypatch, device: str) -> list[int]:
    """The steps of 50 after which memory was given back."""
    trainer = SimpleNamespace(args=SimpleNamespace(device=torch.device(device)), state=SimpleNamespace(global_step=0))
    steps: list[int] = []
    monkeypatch.setattr(memory, "malloc_trim", lambda: lambda padding: steps.append(trainer.state.global_step))
    for step in range(1, 51):
        trainer.state.global_step = step
        ReturnMemory().after_step(trainer)
    return steps


def test_memory_is_given_back_now_and_then_on_a_cpu(monkeypatch):
    assert run(monkeypatch, "cpu") == [EVERY, 2 * EVERY]
    assert run(monkeypatch, "cuda") == []


def test_a_system_without_the_function_goes_without(monkeypatch):
    def missing(name):
        raise OSError

    malloc_trim.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert malloc_trim() is None
    malloc_trim.cache_clear()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has malloc_trim")
def test_the_function_of_glibc_releases_gaps_between_blocks_in_use():
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    size, count = 65536, 3000  # below the size from which malloc maps memory of its own
    blocks = [libc.malloc(size) for _ in range(count)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    for block in blocks[::2]:
        libc.free(block)
    before = resident()
    trim = malloc_trim()
    assert trim is not None
    trim(0)
    assert before - resident() > size * count // 4
    for block in blocks[1::2]:
        libc.free(block)
