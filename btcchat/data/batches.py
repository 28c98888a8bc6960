"""Batches of samples of similar length, the same for the same seed and epoch."""

import math
from collections.abc import Iterator

import numpy as np

from btcchat.errors import BTCChatError

# Samples are sorted by length within windows of this many batches: long enough that padding is small,
# short enough that two epochs do not meet the same batches.
WINDOW = 32


class GroupedBatches:
    """A batch sampler: every sample once an epoch, over all ranks, in batches of similar length.

    lengths: tokens of each sample with its image tokens. The samples are spread evenly over a whole number of
    ``accumulate * world`` batches of at most ``batch_size``, so none is dropped or repeated, every rank has the
    same number of batches, and no accumulation of gradients reaches into the next epoch.
    """

    def __init__(self, lengths, batch_size: int, *, seed: int, accumulate: int = 1, rank: int = 0, world: int = 1):
        self.lengths, self.batch_size, self.seed = np.asarray(lengths), batch_size, seed
        self.rank, self.world, self.epoch = rank, world, 0
        multiple = accumulate * world
        self.num_batches = math.ceil(len(self.lengths) / (batch_size * multiple)) * multiple
        if len(self.lengths) < self.num_batches:
            raise BTCChatError(
                f"{len(self.lengths)} samples are fewer than the {self.num_batches} batches of one step "
                f"({accumulate} accumulated on {world} processes); lower --gradient_accumulation_steps"
            )

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_batches // self.world

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(len(self.lengths))
        step = WINDOW * self.batch_size
        windows = [order[start : start + step] for start in range(0, len(order), step)]
        order = np.concatenate([w[np.argsort(self.lengths[w], kind="stable")] for w in windows])
        batches = np.array_split(order, self.num_batches)
        for index in random.permutation(self.num_batches)[self.rank :: self.world]:
            yield batches[index].tolist()
