"""One way through the samples of an evaluation: each image is opened once, and the vision tower sees it once.

A batch depends on the samples alone, not on the number of processes nor on what a killed run has done before, so what
is computed from it is the same too: padding and the order of a matrix product's sums can turn a tie between two words.
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
    """A batch of samples with its frames, and what the vision tower gave of them."""

    samples: list[Sample]
    frames: list[Tensor]  # of each sample, uint8 (T, 3, H, W)
    images: list[list[Image.Image]]  # of each sample, as they were read
    depths: list[Tensor] | None  # S x (sum of T, L, C); None where no sample shows anything

    def depths_of(self, numbers: Sequence[int], dates: slice = slice(None)) -> list[Tensor]:
        """S x (F, L, C): of these samples, the frames that ``dates`` selects."""
        starts, rows = 0, []
        for number, frames in enumerate(self.frames):
            if number in numbers:
                rows += list(range(starts, starts + len(frames)))[dates]
            starts += len(frames)
        return [depth[rows] for depth in self.depths or ()]


class Consumer(Protocol):
    """Computes something of samples. It takes whole batches, and says which samples it still needs."""

    def wants(self, sample: Sample) -> bool: ...

    def take(self, model: BTCChatModel, seen: Seen) -> None: ...


def batches(samples: Sequence[Sample], size: int) -> list[list[Sample]]:
    """Samples of like size together, the largest first: what does not fit into memory fails at once."""
    order = sorted(samples, key=lambda sample: sample.size, reverse=True)  # stable: equal ones stay in data order
    return [order[start : start + size] for start in range(0, len(order), size)]


def unfinished(groups: Iterable[list[Sample]], consumers: Sequence[Consumer]) -> list[list[Sample]]:
    """The batches with a sample that a consumer wants."""
    return [group for group in groups if any(consumer.wants(sample) for consumer in consumers for sample in group)]


def sweep(model: BTCChatModel, groups: Sequence[list[Sample]], consumers: Sequence[Consumer]) -> Iterator[list[Sample]]:
    """Give each batch to the consumers that want one of its samples; yields the batch when they have it.

    Raises BTCChatError that names the row whose images cannot be read.
    """
    for samples, loaded in zip(groups, read_ahead(lambda sample: _read(model, sample), groups), strict=True):
        images, frames = [pictures for pictures, _ in loaded], [pixels for _, pixels in loaded]
        takers = [consumer for consumer in consumers if any(map(consumer.wants, samples))]
        with torch.no_grad():  # not inference_mode: weights that ZeRO-3 gathers in it could not be trained on
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
