"""The DataLoader of a training run, over an indexed or a streamed mixture."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from btcchat.console.children import end_with_parent
from btcchat.data.batches import WINDOW, Batching, GroupedBatches, batch_sizes, blurred, coarse
from btcchat.data.mixture import Mixture
from btcchat.data.mixture.faults import BadSample
from btcchat.data.mixture.stream import StreamMixture
from btcchat.data.records import Record, characters, frames
from btcchat.errors import BTCChatError
from btcchat.processor import Batch, Sample
from btcchat.prompt import IGNORE_INDEX

Estimate = Callable[[str, int, int], int]  # (modality, frames, characters) -> tokens
NOTHING: Sample = {
    "input_ids": torch.tensor([0]),
    "labels": torch.tensor([IGNORE_INDEX]),
    "frames": torch.zeros(0, 3, 0, 0, dtype=torch.uint8),
    "modality": "text",
}


def train_loader(
    mixture: Mixture[Sample] | StreamMixture[Sample],
    collate: Callable[[Sequence[Sample]], Batch],
    estimate: Estimate,
    batching: Batching,
    *,
    num_workers: int = 0,
    persistent_workers: bool = False,
    prefetch_factor: int | None = None,
    pin_memory: bool = False,
) -> DataLoader:
    """A loader of batches made by `collate_good`. The keywords are those of DataLoader.

    For an indexed mixture it ends after an epoch, and ``set_epoch`` shuffles it; for a streamed one it never ends.
    """
    options: dict[str, Any] = {
        "collate_fn": partial(collate_good, collate=collate),
        "generator": torch.Generator(),  # separate, so that the model's random numbers do not depend on the loader
        "num_workers": num_workers,
        "worker_init_fn": end_with_parent,
        "persistent_workers": persistent_workers,
        "prefetch_factor": prefetch_factor,
        "pin_memory": pin_memory,
    }
    if isinstance(mixture, StreamMixture):
        return DataLoader(StreamedBatches(mixture, estimate, batching), batch_size=None, **options)
    batches = EpochBatches(GroupedBatches(mixture.lengths(estimate), batching))
    return EpochLoader(mixture, batch_sampler=batches, **options)  # type: ignore[arg-type]  # has all methods of Dataset


def collate_good(samples: list[Sample | BadSample], collate: Callable[[Sequence[Sample]], Batch]) -> dict[str, Any]:
    """Collate the good samples. ``faults`` has a line for each bad sample, ``cut`` for each truncated one.

    If no sample is good, the batch is one token without a label, so that this process stays in step with the others.
    """
    good = [sample for sample in samples if not isinstance(sample, BadSample)]
    faults = [sample.fault for sample in samples if isinstance(sample, BadSample)]
    cut = [sample["cut"] for sample in good if sample.get("cut")]
    return {**collate(good or [NOTHING]), "faults": faults, "cut": cut}


class EpochLoader(DataLoader):
    """A DataLoader whose batches depend on the epoch."""

    batch_sampler: "EpochBatches"

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Set the epoch that is iterated next, starting at its batch ``first``."""
        self.batch_sampler.batches.set_epoch(epoch)
        self.batch_sampler.first = first


class EpochBatches:
    """Batches of (epoch, index), so that worker processes, which outlive an epoch, know it. first: see set_epoch."""

    def __init__(self, batches: GroupedBatches):
        self.batches, self.first = batches, 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rest = islice(self.batches, self.first, None)
        return ([(self.batches.epoch, index) for index in batch] for batch in rest)


class StreamedBatches(IterableDataset):
    """Batches of similar length from windows of records, epoch after epoch, without end."""

    def __init__(self, mixture: StreamMixture[Sample], estimate: Estimate, batching: Batching):
        self.mixture, self.estimate, self.batching = mixture, estimate, batching

    def __iter__(self) -> Iterator[list[Sample | BadSample]]:
        worker = get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        reader, readers = self.batching.rank * workers + number, self.batching.world * workers
        for epoch in count():
            records = self.mixture.records(epoch, reader, readers)
            for window in count():
                # Files of tar shards are not decoded yet.
                held = list(islice(records, WINDOW * self.batching.batch_size))
                if not held and not window:
                    raise BTCChatError(
                        f"the streamed mixture has too few records for reader {reader + 1} of {readers} (processes x "
                        "workers); lower --dataloader_num_workers"
                    )
                if not held:
                    break
                yield from self._batches(held, np.random.default_rng((self.mixture.seed, epoch, reader, window)))

    def _batches(self, held: list[Record], random: np.random.Generator) -> Iterator[list[Sample | BadSample]]:
        batch_size, max_tokens = self.batching.batch_size, self.batching.max_tokens
        lengths = np.array([self.estimate(record.modality, frames(record), characters(record)) for record in held])
        lengths = blurred(lengths, random) if max_tokens is None else coarse(lengths, max_tokens)
        order = random.permutation(len(held))
        order = order[np.argsort(-lengths[order], kind="stable")]
        sizes = batch_sizes(lengths[order], batch_size, max_tokens)
        batches = np.split(order, np.cumsum(sizes)[:-1])
        for index in random.permutation(len(batches)):
            yield [self.mixture.sample(held[i]) for i in batches[index]]
