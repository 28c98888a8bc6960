"""How several processes, each with its own copy of the model, share the GPUs."""

import math
import os
from itertools import count
from pathlib import Path

from btcchat.errors import BTCChatError
from btcchat.outputs.lock import Lock

VISIBLE = "CUDA_VISIBLE_DEVICES"


def ray_share(processes: int, device: str) -> float:
    """GPUs that each process gets from Ray: one, or an equal part of one if the processes outnumber the GPUs.

    0 if Ray has none, or if the model runs on the CPU. Ray then shows a process no other GPU than its own.
    """
    import ray

    gpus = 0 if device == "cpu" else int(ray.cluster_resources().get("GPU", 0))
    if processes <= gpus or not gpus:
        return float(min(gpus, 1))
    return math.floor(10_000 / math.ceil(processes / gpus)) / 10_000  # Ray counts ten-thousandths of a GPU


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named, gpus = os.environ.get(VISIBLE), torch.cuda.device_count()
    return named.split(",")[:gpus] if named else [str(number) for number in range(gpus)]


def take_turn(gpus: list[str], folder: Path) -> None:
    """Let this process see only one of ``gpus``, in turn with the others that have their locks in ``folder``.

    It must not have used CUDA yet. A process that replaces one that has ended takes the same GPU.
    """
    if len(gpus) < 2:
        return
    for number in count():
        try:
            Lock(folder / f"{number}.lock", "the turn")
        except BTCChatError:
            continue  # another process has it
        os.environ[VISIBLE] = gpus[number % len(gpus)]
        return
