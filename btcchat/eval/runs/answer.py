"""A model's answers to samples, in batches that the samples alone decide.

A batch is the same whatever the number of processes and whatever a killed run has done before, so the answers are too:
padding and the order of a matrix product's sums can turn a tie between two words.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from btcchat import generation as inference
from btcchat.clues.ask import ClueSource
from btcchat.errors import BTCChatError
from btcchat.eval.runs.samples import Sample
from btcchat.media import load_frames
from btcchat.prompt import templates as prompt

READERS = 4  # threads that read and resize images while the model answers
AHEAD = 2  # batches they are ahead


def batches(samples: Sequence[Sample], size: int) -> list[list[Sample]]:
    """Samples of like size together, the largest first: what does not fit into memory fails at once."""
    order = sorted(samples, key=lambda sample: sample.size, reverse=True)  # stable: equal ones stay in data order
    return [order[start : start + size] for start in range(0, len(order), size)]


def answers(
    model,
    numbered: Iterable[tuple[int, list[Sample]]],
    *,
    clues: ClueSource | None = None,
    seed: int | None = None,
    **generation,
):
    """Answer (number, batch) one by one: yields dicts from id to answer. Generation: inference.GENERATION.

    Batch n is sampled with ``seed`` and n, whoever answers it. clues: of the records that have none of their own.
    Raises BTCChatError that names the row.
    """
    numbered = list(numbered)
    read = read_ahead(lambda sample: pixels_of(model, sample), [batch for _, batch in numbered])
    for (number, batch), pixels in zip(numbered, read, strict=True):
        told = _clues(batch, clues)
        samples = [_sample(model, *one) for one in zip(batch, pixels, told, strict=True)]
        drawn = None if seed is None else seed * 1_000_003 + number
        texts = inference.answer_batch(model, inference.collated(model, samples), seed=drawn, **generation)
        yield {sample.id: text for sample, text in zip(batch, texts, strict=True)}


def read_ahead(read: Callable, groups: Sequence[list]) -> Iterator[list]:
    """``[read(one) for one in group]`` of each group; the next groups are read meanwhile, by threads."""
    with ThreadPoolExecutor(READERS) as pool:
        waiting: deque = deque()
        try:
            for group in groups:
                waiting.append([pool.submit(read, one) for one in group])
                if len(waiting) > AHEAD:
                    yield [one.result() for one in waiting.popleft()]
            while waiting:
                yield [one.result() for one in waiting.popleft()]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def pixels_of(model, sample: Sample) -> torch.Tensor | None:
    """(T, 3, H, W)"""
    record = sample.record
    try:
        return inference.pixels(
            model, load_frames(record.modality, record.sources, num_video_frames=model.config.num_video_frames)
        )
    except BTCChatError as error:
        raise BTCChatError(f"{record.where}: {error}") from error


def _clues(batch: list[Sample], source: ClueSource | None) -> list[str | None]:
    """As in training: a record keeps its own clue, and one without images has none."""
    records = [sample.record for sample in batch]
    asked = [record for record in records if source and not record.clue and record.modality != "text"]
    found = iter(source([(record.modality, record.sources, record.sources) for record in asked]) if asked else [])
    return [(next(found) if record in asked else record.clue) or None for record in records]


def _sample(model, sample: Sample, pixels: torch.Tensor | None, clue: str | None = None) -> dict:
    """The prompt as training writes it, up to the answer; for a caption of a pair, as `btcchat caption` does."""
    record, frames = sample.record, 0 if pixels is None else len(pixels)
    hints = {"dates": record.dates, "task": record.task, "clue": clue}
    try:
        if sample.question is None:
            request = inference.Request(model.config.caption_question, record.modality, **hints)
            turns = [inference.question_turn(model, request, frames)]
        else:
            turns = prompt.turns_from_record(
                prompt.reword(
                    [{"from": "human", "value": sample.question}],
                    record.modality,
                    dates=record.dates,
                    **model.config.words,
                ),
                segments=model.num_segments(record.modality, frames),
                modality=record.modality,
                frames=frames,
                template=model.config.conv_version,
                **hints,
            )
        return inference.as_sample(model, record.modality, pixels, turns)
    except BTCChatError as error:
        raise BTCChatError(f"{record.where}: {error}") from error
