"""What distributed runs use, tried with one process: NCCL, and a training run in the environment that torchrun sets."""

import os
import socket
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import distributed

from btcchat.eval.encoders.markdown import table
from gpu_rows.setting import Setting, need
from gpu_rows.speed import device_of, median_seconds

PRESET = "release/3b/sft"


def exchange(setting: Setting) -> Iterator[str]:
    """all_reduce of tensors of several sizes, which must stay the same with one process."""
    device = device_of(setting)
    backend = "gloo" if setting.tiny else "nccl"
    set_environment()
    if device.type == "cuda":
        torch.cuda.set_device(0)
    distributed.init_process_group(backend)
    rows = []
    for size in (2**20, 2**22) if setting.tiny else (2**20, 2**26, 2**30):
        values = torch.arange(size // 4, device=device, dtype=torch.float32)
        distributed.all_reduce(values)
        if not torch.equal(values, torch.arange(size // 4, device=device, dtype=torch.float32)):
            raise RuntimeError(f"all_reduce with one process changes a tensor of {size} bytes")
        seconds = median_seconds(lambda: distributed.all_reduce(values), device, 5)  # noqa: B023
        rows.append([f"{size / 2**20:g}", f"{1000 * seconds:.3f}"])
        yield f"{name_of(backend)}, one process.\n\n{table(['MiB', 'all_reduce, ms'], rows)}"
    distributed.destroy_process_group()


def ddp(setting: Setting) -> Iterator[str]:
    """DDP, as `torchrun --nproc_per_node 1`."""
    set_environment()
    yield train(setting)


def zero2(setting: Setting) -> Iterator[str]:
    need("deepspeed")
    set_environment()
    yield train(setting, deepspeed="zero2")


def set_environment() -> None:
    """Set the environment that torchrun sets for the only process of a run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def name_of(backend: str) -> str:
    return f"NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}" if backend == "nccl" else backend


def train(setting: Setting, **flags: str) -> str:
    """Train a small model from random weights for a few steps of a preset on drawn scenes; -> its log lines."""
    from btcchat.train.train_mem import run

    device = device_of(setting)
    with TemporaryDirectory() as folder:
        flags |= {"output_dir": str(Path(folder, "out")), "max_steps": "4"}
        flags["use_cpu"] = str(setting.tiny and "deepspeed" not in flags)  # DeepSpeed finds the CPU by itself
        words = [word for name, value in flags.items() for word in (f"--{name}", value)]
        printed = StringIO()
        with redirect_stdout(printed):
            run(["--preset", PRESET, "--smoke", *words])
    if distributed.is_initialized():
        distributed.destroy_process_group()
    lines = [line for line in printed.getvalue().splitlines() if line.startswith("{")]
    return f"`--preset {PRESET} --smoke` on {device}:\n\n```\n" + "\n".join(lines) + "\n```"
