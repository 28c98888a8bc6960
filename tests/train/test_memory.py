"""The heap during a training on a CPU."""

import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from btcchat.train import memory
from btcchat.train.memory import EVERY, MMAP_THRESHOLD, TRIM_THRESHOLD, HeapMemory, glibc

on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heap is that of glibc")


class FakeLibrary:
    def __init__(self, accepts: bool = True):
        self.accepts, self.step, self.set, self.trimmed = accepts, 0, [], []

    def mallopt(self, parameter: int, value: int) -> int:
        self.set.append(parameter)
        return int(self.accepts)

    def malloc_trim(self, padding: int) -> None:
        self.trimmed.append(self.step)


def run(monkeypatch, device: str, accepts: bool = True) -> FakeLibrary:
    """What a run of 50 steps asks of glibc."""
    trainer = SimpleNamespace(args=SimpleNamespace(device=torch.device(device)), state=SimpleNamespace(global_step=0))
    library = FakeLibrary(accepts)
    monkeypatch.setattr(memory, "glibc", lambda: library)
    hook = HeapMemory()
    hook.begin(trainer)
    for library.step in range(1, 51):
        trainer.state.global_step = library.step
        hook.after_step(trainer)
    return library


def test_memory_is_given_back_now_and_then_on_a_cpu(monkeypatch):
    assert run(monkeypatch, "cpu").trimmed == [EVERY, 2 * EVERY]
    assert run(monkeypatch, "cuda").trimmed == []


def test_the_heap_keeps_freed_memory_only_if_large_tensors_are_in_it(monkeypatch):
    assert run(monkeypatch, "cpu").set == [MMAP_THRESHOLD, TRIM_THRESHOLD]
    assert run(monkeypatch, "cpu", accepts=False).set == [MMAP_THRESHOLD]
    assert run(monkeypatch, "cuda").set == []


def test_a_system_without_the_functions_goes_without(monkeypatch):
    def missing(name):
        raise OSError

    glibc.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert glibc() is None
    glibc.cache_clear()


FAULTS = """
import resource, torch
from types import SimpleNamespace
from btcchat.train.memory import HeapMemory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
HeapMemory().begin(SimpleNamespace(args=SimpleNamespace(device=torch.device("cpu"))))
faults()
print(first, faults())
"""


@on_glibc
def test_a_large_tensor_gets_the_pages_of_the_one_before_it():
    said = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout
    without, kept = map(int, said.split())
    assert without > 1000 and kept < without / 10


@on_glibc
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
    found = glibc()
    assert found is not None
    found.malloc_trim(0)
    assert before - resident() > size * count // 4
    for block in blocks[1::2]:
        libc.free(block)
