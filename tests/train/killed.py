"""A training run that is killed part way, as by ``kill -9``: ``python killed.py WHEN FLAGS...``

WHEN: ``step:N`` in the N-th batch; ``write:N`` with half of the N-th checkpoint's optimizer.pt written;
``delete:N`` with the N-th deletion of an old checkpoint begun.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import torch

from btcchat.train import train_mem
from btcchat.train.trainer import Trainer


def dies(function, number: int, concerned, first=lambda *arguments: None):
    """``function``, but its ``number``-th call with ``concerned(*arguments)`` runs ``first`` and kills the process."""
    calls = 0

    def call(*arguments, **options):
        nonlocal calls
        calls += concerned(*arguments)
        if calls == number and concerned(*arguments):
            first(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    return call


def main(when: str, argv: list[str]) -> None:
    torch.set_num_threads(1)
    event, number = when.split(":")
    save = torch.save
    if event == "step":
        Trainer._loss = dies(Trainer._loss, int(number), lambda *arguments: True)
    elif event == "write":

        def half(value, path):
            save(value, path)
            Path(path).write_bytes(Path(path).read_bytes()[:1000])

        torch.save = dies(save, int(number), lambda value, path: Path(path).name == "optimizer.pt", half)
    else:

        def is_checkpoint(folder):
            return Path(folder).name.startswith("tmp-checkpoint")

        shutil.rmtree = dies(
            shutil.rmtree, int(number), is_checkpoint, lambda folder: next(folder.glob("*.pt")).unlink()
        )
    train_mem.run(argv)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
