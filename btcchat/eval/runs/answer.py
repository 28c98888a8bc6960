"""A model's answers to the samples of an evaluation."""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import replace

from torch import Tensor

from btcchat.clues.ask import ClueSource
from btcchat.data.records import Record
from btcchat.errors import BTCChatError
from btcchat.eval.runs.samples import Sample
from btcchat.eval.runs.sweep import Seen
from btcchat.generation import GenerationOptions, generate
from btcchat.model import BTCChatModel, SeenBefore
from btcchat.processor import Sample as ModelInput
from btcchat.prompt import CAPTION_QUESTION


class Answering:
    """Answers the samples that are not ``done``, a batch at a time.

    write: called with a dict from id to answer for each batch. clues: for records without a clue. A sampled answer
    depends on ``options.seed`` and the sample, not on its batch or process.
    """

    def __init__(
        self,
        done: Collection[str],
        write: Callable[[dict[str, str]], None],
        options: GenerationOptions,
        clues: ClueSource | None = None,
    ):
        self.done, self.write, self.options, self.clues = set(done), write, options, clues

    def wants(self, sample: Sample) -> bool:
        return sample.id not in self.done

    def take(self, model: BTCChatModel, seen: Seen) -> None:
        clues = self._clues(seen)
        inputs = [
            _model_input(model, sample, clue, frames)
            for sample, clue, frames in zip(seen.samples, clues, seen.frames, strict=True)
        ]
        batch = model.processor.collate(inputs)
        texts = generate(
            model,
            {**batch, "frames": None, "encoder": None if seen.depths is None else SeenBefore(seen.depths)},
            [self._options(sample) for sample in seen.samples],
        )
        self.write({s.id: text for s, text in zip(seen.samples, texts, strict=True) if s.id not in self.done})
        self.done |= {sample.id for sample in seen.samples}

    def _options(self, sample: Sample) -> GenerationOptions:
        """The options, with a seed for each sample if answers are sampled."""
        sampled = self.options.temperature > 0
        return replace(self.options, seed=_seed(self.options.seed, sample.id)) if sampled else self.options

    def _clues(self, seen: Seen) -> list[str | None]:
        """As in training: a record keeps its own clue, and a record without images has none."""
        records = [sample.record for sample in seen.samples]
        without = [
            number
            for number, record in enumerate(records)
            if self.clues and not record.clue and record.modality != "text"
        ]
        clues = [record.clue or None for record in records]
        if self.clues and without:
            new = self.clues(
                [(records[number].modality, records[number].sources, seen.images[number]) for number in without]
            )
            for number, clue in zip(without, new, strict=True):
                clues[number] = clue or None
        return clues


def question_record(sample: Sample, clue: str | None) -> Record:
    """The record with only its question; for a caption of a pair, the model's own caption question."""
    question = CAPTION_QUESTION if sample.question is None else sample.question
    return replace(sample.record, conversations=[{"from": "human", "value": question}], clue=clue)


def _model_input(model: BTCChatModel, sample: Sample, clue: str | None, frames: Tensor) -> ModelInput:
    record = question_record(sample, clue)
    try:
        return model.processor(record, frames, train=False)
    except BTCChatError as error:
        raise BTCChatError(f"{record.where}: {error}") from error


def _seed(seed: int | None, name: str) -> int | None:
    """The seed of one sample: the same in any batch and process, and different for each sample."""
    if seed is None:
        return None
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "big")
