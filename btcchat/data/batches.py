"""Batches of samples of similar length, the same for the same seed and epoch."""

import math
from collections.abc import Iterator

import numpy as np

from btcchat.errors import BTCChatError

# Samples are sorted by length within windows of this many batches: long enough that padding is small,
# short enough that two epochs do not meet the same batches.
WINDOW = 32
# Each length is first multiplied by a number drawn from this range. The answer "nothing has changed" is short: sorted
# by exact lengths, unchanged pairs would fill whole batches, changed ones others, and a BatchNorm would tell which.
BLUR = (0.82, 1.22)


class GroupedBatches:
    """A batch sampler: every sample once an epoch, over all ranks, in batches of similar length.

    lengths: tokens of each sample with its image tokens. A batch has at most ``batch_size`` samples and, where
    ``max_tokens`` is given, at most so many tokens with their padding. There are ``accumulate * world`` batches a
    step, so none is dropped or repeated, every rank has the same number of batches in every epoch, and no
    accumulation of gradients reaches into the next epoch. The batches of a step are neighbours in length: a rank with
    captions would wait for one with videos.
    """

    def __init__(
        self,
        lengths,
        batch_size: int,
        *,
        seed: int,
        max_tokens: int | None = None,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
    ):
        self.lengths, self.batch_size, self.seed = np.asarray(lengths), batch_size, seed
        self.rank, self.world, self.epoch = rank, world, 0
        self.step = multiple = accumulate * world  # batches of a step
        self.sizes = None  # of the batches, longest samples first; None: all the same
        if max_tokens is None:
            self.num_batches = math.ceil(len(self.lengths) / (batch_size * multiple)) * multiple
        else:
            self.lengths = coarse(self.lengths, max_tokens)
            self.sizes = batch_sizes(-np.sort(-self.lengths), batch_size, max_tokens, multiple)
            self.num_batches = math.ceil(len(self.sizes) / multiple) * multiple
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
        batches = self._evenly(order, random) if self.sizes is None else self._by_tokens(order)
        for first in random.permutation(self.num_batches // self.step) * self.step:
            for batch in batches[first + self.rank : first + self.step : self.world]:
                yield batch.tolist()

    def _evenly(self, order: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        step = WINDOW * self.batch_size
        windows = [order[start : start + step] for start in range(0, len(order), step)]
        order = np.concatenate([w[np.argsort(blurred(self.lengths[w], random), kind="stable")] for w in windows])
        return np.array_split(order, self.num_batches)

    def _by_tokens(self, order: np.ndarray) -> list[np.ndarray]:
        """Sorted over all samples: which lengths meet is the same in every epoch, and so is the number of batches."""
        order = order[np.argsort(-self.lengths[order], kind="stable")]
        return np.split(order, np.cumsum(self.sizes)[:-1])


def blurred(lengths: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return lengths * random.uniform(*BLUR, len(lengths))


def coarse(lengths: np.ndarray, max_tokens: int) -> np.ndarray:
    """Lengths rounded up by at most a quarter, so that many are equal and their samples change places by chance."""
    lengths = np.maximum(lengths, 1)
    if lengths.max() > max_tokens:
        raise BTCChatError(
            f"the longest sample has about {lengths.max()} tokens, a batch may have {max_tokens}; raise "
            "--max_tokens_per_batch, or lower --model_max_length"
        )
    step = 2 ** np.maximum(np.log2(lengths).astype(int) - 2, 0)
    return np.minimum(-(-lengths // step) * step, max_tokens)


def batch_sizes(lengths: np.ndarray, batch_size: int, max_tokens: int | None, multiple: int = 1) -> list[int]:
    """Samples of each batch when descending ``lengths`` are cut up. Their number is a multiple, if there are enough."""
    sizes, start = [], 0
    while start < len(lengths):
        size = batch_size if max_tokens is None else min(batch_size, int(max_tokens // lengths[start]))
        size = min(size, len(lengths) - start)
        sizes.append(size)
        start += size
    while len(sizes) % multiple and max(sizes) > 1:
        largest = sizes.index(max(sizes))
        half = sizes[largest] // 2
        sizes[largest : largest + 1] = [sizes[largest] - half, half]
    return sizes
