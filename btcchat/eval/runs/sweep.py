"""One pass over the samples of an evaluation: each image is opened once and goes through the vision tower once.

Batches depend only on the samples, not on the number of processes or on the progress of an interrupted run, so the
results do not either: padding and the summation order of a matrix product can decide a tie between two words.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from btcchat.errors import BTCChatError
from btcchat.eval.runs.samples import Sample
from btcchat.media.read_ahead import read_ahead
from btcchat.model import BTCChatModel


@dataclass
class Seen:
    """A batch of samples with its frames and their features from the vision tower."""

    samples: list[Sample]
    frames: list[Tensor]  # per sample, uint8 (T, 3, H, W)
    images: list[list[Image.Image]]  # per sample, as they were read
    depths: list[Tensor] | None  # S x (sum of T, L, C); None if no sample has an image

    def depths_of(self, numbers: Sequence[int], dates: slice = slice(None)) -> list[Tensor]:
        """The features of these samples, only of the frames that ``dates`` selects, S x (F, L, C)."""
        starts, rows = 0, []
        for number, frames in enumerate(self.frames):
            if number in numbers:
                rows += list(range(starts, starts + len(frames)))[dates]
            starts += len(frames)
        return [depth[rows] for depth in self.depths or ()]


class Consumer(Protocol):
    """Computes something from samples. It takes whole batches, and says which samples it still needs."""

    def wants(self, sample: Sample) -> bool: ...

    def take(self, model: BTCChatModel, seen: Seen) -> None: ...


def batches(samples: Sequence[Sample], size: int) -> list[list[Sample]]:
    """Batch samples of similar size, the largest first, so that a batch too large for the memory fails at once."""
    order = sorted(samples, key=lambda sample: sample.size, reverse=True)  # stable: equal sizes stay in order
    return [order[start : start + size] for start in range(0, len(order), size)]


def unfinished(groups: Iterable[list[Sample]], consumers: Sequence[Consumer]) -> list[list[Sample]]:
    """The batches with a sample that a consumer needs."""
    return [group for group in groups if any(consumer.wants(sample) for consumer in consumers for sample in group)]


def sweep(model: BTCChatModel, groups: Sequence[list[Sample]], consumers: Sequence[Consumer]) -> Iterator[list[Sample]]:
    """Give each batch to the consumers that need one of its samples, then yield the batch.

    Raises BTCChatError that names the row whose images cannot be read.
    """
    for samples, loaded in zip(groups, read_ahead(lambda sample: _read(model, sample), groups), strict=True):
        images, frames = [pictures for pictures, _ in loaded], [pixels for _, pixels in loaded]
        takers = [consumer for consumer in consumers if any(map(consumer.wants, samples))]
        with torch.no_grad():  # not inference_mode: weights that ZeRO-3 gathers in it could not be trained afterwards
            shown = [pixels for pixels in frames if len(pixels)]
            seen = Seen(samples, frames, images, model.see(torch.cat(shown)) if shown else None)
            for taker in takers:
                taker.take(model, seen)
        yield samples


def _read(model: BTCChatModel, sample: Sample) -> tuple[list[Image.Image], Tensor]:
    record = sample.record
    try:
        images = model.processor.load_frames(record)
        return images, model.processor.pixels(images)
    except BTCChatError as error:
        raise BTCChatError(f"{record.where}: {error}") from error
