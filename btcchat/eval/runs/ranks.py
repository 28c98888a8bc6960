"""The processes of one launch, which divide the work: ``torchrun --nproc_per_node N -m btcchat eval ...``.

They exchange lists of ids and texts, never tensors, so gloo is sufficient on GPUs too; an existing group (of a
training, nccl or gloo) is used as it is.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

DEFAULTS = {
    "RANK": 0,
    "WORLD_SIZE": 1,
    "LOCAL_RANK": 0,
}  # a launcher's environment variables -> values without one


class Ranks:
    """``number`` of ``world`` processes."""

    def __init__(self, number: int = 0, world: int = 1):
        self.number, self.world = number, world

    @property
    def first(self) -> bool:
        return self.number == 0

    def from_first(self, value: Any) -> Any:
        """Return the first process's ``value`` in all processes, which wait for it."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes in all of them; they wait for each other."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        box: list[Any] = [None] * self.world
        dist.all_gather_object(box, value)
        return box


def launched() -> tuple[int, int, int]:
    """(rank, processes, rank on this machine) from the launcher's variables; one process without a launcher."""
    rank, world, local = (int(os.environ.get(name, default)) for name, default in DEFAULTS.items())
    return rank, world, local


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the processes of this launch while the block runs."""
    rank, world, local = launched()
    if world == 1:
        yield Ranks()
        return
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(local % torch.cuda.device_count())  # more processes share a GPU, or use none of them
    started = not dist.is_initialized()
    if started:
        dist.init_process_group("gloo", timeout=timedelta(days=7))  # the first to finish waits for the last
    try:
        yield Ranks(rank, world)
    finally:
        if started:
            dist.destroy_process_group()
