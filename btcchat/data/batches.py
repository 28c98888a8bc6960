"""Batches of samples of similar length, the same for the same seed and epoch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from btcchat.errors import BTCChatError

# Samples are sorted by length within windows of this many batches: long enough that padding is small,
# short enough that two epochs do not have the same batches.
WINDOW = 32
# Each length is first multiplied by a number drawn from this range. The answer "nothing has changed" is short: sorted
# by exact lengths, unchanged pairs would fill whole batches, changed ones others, and a BatchNorm would
# distinguish them.
BLUR = (0.82, 1.22)


@dataclass(frozen=True)
class Batching:
    """How the samples of a mixture become the batches of one process."""

    batch_size: int  # samples in a batch, at most
    max_tokens: int | None = None  # tokens in a batch including padding, at most
    seed: int = 0  # for the order; a streamed mixture has its own seed
    accumulate: int = 1  # batches of each process in one step
    rank: int = 0  # this process, of ``world``
    world: int = 1

    @property
    def batches_per_step(self) -> int:
        return self.accumulate * self.world


class GroupedBatches:
    """A batch sampler: every sample once per epoch, over all ranks, in batches of similar length.

    lengths: tokens of each sample including its image tokens. A step has ``accumulate * world`` batches. No batch is
    dropped or repeated, every rank has the same number of batches in every epoch, and gradients are not accumulated
    across epochs. The batches of a step are similar in length, as a rank with captions would wait for one with videos.
    Raises BTCChatError if there are too few samples for one step, or if a sample exceeds ``max_tokens``.
    """

    def __init__(self, lengths: ArrayLike, batching: Batching):
        self.lengths, self.batching, self.epoch = np.asarray(lengths), batching, 0
        batch_size, max_tokens, multiple = batching.batch_size, batching.max_tokens, batching.batches_per_step
        self.sizes: list[int] | None = None  # of the batches, longest samples first; None if all have the same size
        if max_tokens is None:
            self.num_batches = math.ceil(len(self.lengths) / (batch_size * multiple)) * multiple
        else:
            self.lengths = coarse(self.lengths, max_tokens)
            self.sizes = batch_sizes(-np.sort(-self.lengths), batch_size, max_tokens, multiple)
            self.num_batches = math.ceil(len(self.sizes) / multiple) * multiple
        if len(self.lengths) < self.num_batches:
            raise BTCChatError(
                f"{len(self.lengths)} samples are fewer than the {self.num_batches} batches of one step "
                f"({batching.accumulate} accumulated on {batching.world} processes); "
                "lower --gradient_accumulation_steps"
            )

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_batches // self.batching.world

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng((self.batching.seed, self.epoch))
        order = random.permutation(len(self.lengths))
        batches = self._evenly(order, random) if self.sizes is None else self._by_tokens(order, self.sizes)
        step = self.batching.batches_per_step
        for first in random.permutation(self.num_batches // step) * step:
            for batch in batches[first + self.batching.rank : first + step : self.batching.world]:
                yield batch.tolist()

    def _evenly(self, order: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        size = WINDOW * self.batching.batch_size
        windows = [order[start : start + size] for start in range(0, len(order), size)]
        order = np.concatenate([w[np.argsort(blurred(self.lengths[w], random), kind="stable")] for w in windows])
        return np.array_split(order, self.num_batches)

    def _by_tokens(self, order: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
        """Sort over all samples: the same lengths share a batch in every epoch, so the number of batches is
        constant.
        """
        order = order[np.argsort(-self.lengths[order], kind="stable")]
        return np.split(order, np.cumsum(sizes)[:-1])


def blurred(lengths: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return lengths * random.uniform(*BLUR, len(lengths))


def coarse(lengths: np.ndarray, max_tokens: int) -> np.ndarray:
    """Round lengths up by at most a quarter, so that many are equal and their samples are shuffled among each other."""
    lengths = np.maximum(lengths, 1)
    if lengths.max() > max_tokens:
        raise BTCChatError(
            f"the longest sample has about {lengths.max()} tokens, but a batch may only have {max_tokens}; "
            "raise --max_tokens_per_batch, or lower --model_max_length"
        )
    step = 2 ** np.maximum(np.log2(lengths).astype(int) - 2, 0)
    rounded: np.ndarray = np.minimum(-(-lengths // step) * step, max_tokens)
    return rounded


def batch_sizes(lengths: np.ndarray, batch_size: int, max_tokens: int | None, multiple: int = 1) -> list[int]:
    """Batch sizes when splitting descending ``lengths``; the number of batches is a multiple, if possible."""
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
