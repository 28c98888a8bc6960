"""Everything that can be known of a mixture before a training run: what its rows and files are, and each fault.

Every row is read, whatever its fault; each of its files is decoded, and its conversations are tokenised as in training.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context

import numpy as np

from btcchat import prompt
from btcchat.data.check.table import Checked, Size
from btcchat.data.mixture import known_sets
from btcchat.data.mixture.mixture import is_streamed, located, one_file
from btcchat.data.mixture.sampling import sample
from btcchat.data.mixture.stream import Stream
from btcchat.data.mixture.terms import Term, terms
from btcchat.data.records import Record, parse
from btcchat.data.records.rows import open_rows
from btcchat.data.records.shards import open_shards
from btcchat.errors import BTCChatError
from btcchat.media import load_frames, load_image
from btcchat.processor import Processor

AddClue = Callable[[Record, tuple[int, ...]], Record]  # (record, draw) -> the record with its clue: clues.apply
CHUNK = 32  # rows a worker takes at a time


@dataclass
class Source:
    """A set that is checked: ``rows[i]`` for i in ``chosen``, or all shards of a streamed one."""

    name: str
    image_root: str
    rows: object = None
    chosen: range | np.ndarray = range(0)
    shards: object = None
    captions: bool = False  # each of a record's captions is used, not only the one in its conversation
    broken: list[Checked] = field(default_factory=list)  # where the file as a whole cannot be read on

    @property
    def total(self) -> int | None:
        """Rows, so far as they are counted."""
        return None if self.shards else len(self.chosen) + len(self.broken)

    def tasks(self) -> list:
        """What a worker takes at a time: numbers of rows, or the number of a shard."""
        if self.shards:
            return list(range(len(self.shards)))
        return [self.chosen[start : start + CHUNK] for start in range(0, len(self.chosen), CHUNK)]


def open_sources(mixture: str, *, data_root: str | None, folder: str | None) -> list[Source]:
    """Each set of the mixture once, however often it counts; of a random share of it, all of it.

    Raises BTCChatError for an unknown set, an annotation file that is not there, a share that the set does not have.
    """
    root = data_root or os.environ.get("BTCCHAT_DATA")
    found = {}
    for term in terms(mixture, known_sets(folder)):
        if term.label not in found:
            found[term.label] = _source(term.label, term, root)
    return list(found.values())


def _source(name: str, term: Term, root: str | None) -> Source:
    annotation, images, options = located(term, root)
    source = Source(name, images, captions=term.captions != "written")
    if is_streamed(term, annotation):
        source.shards = Stream(open_shards(annotation, images, **options), term).shards
        return source
    source.rows, count = open_rows(one_file(term, annotation), **options), 0
    try:
        for _ in source.rows.scan():
            count += 1
        if not count:
            source.broken.append(Checked(source.rows.name, faults=[("row", "has no records")]))
    except BTCChatError as error:
        where, _, fault = str(error).partition(": ")
        source.broken.append(Checked(where, faults=[("row", f"{fault}; what is behind it was not read")]))
    rows = range(count) if source.broken else sample(term.sampling, count, name=term.name, seed=0)
    source.chosen = rows if isinstance(rows, range) else range(count)  # of a random share, all of it
    return source


def check(
    sources: list[Source], processor: Processor, workers: int, add_clue: AddClue | None = None
) -> Iterator[tuple[str, Checked]]:
    """(set, row) of every row, in order. workers: processes beside this one; 0: none. add_clue: see `AddClue`."""
    shared = (sources, processor, add_clue)
    tasks = [(number, task) for number, source in enumerate(sources) for task in source.tasks()]
    yield from ((source.name, row) for source in sources for row in source.broken)
    with get_context().Pool(workers, _start, shared) if workers else nullcontext() as pool:
        if pool is None:
            _start(*shared)
        for (number, _), rows in zip(tasks, (pool.imap if pool else map)(_checked, tasks), strict=True):
            yield from ((sources[number].name, row) for row in rows)


_shared: dict = {}  # of a worker process


def _start(sources: list[Source], processor: Processor, add_clue: AddClue | None) -> None:
    _shared.update(sources=sources, processor=processor, add_clue=add_clue)
    _image_file.cache_clear()  # of an earlier check in this process, since when a file may have changed


def _checked(task: tuple[int, object]) -> list[Checked]:
    source: Source = _shared["sources"][task[0]]
    return list((_of_shard if source.shards else _of_rows)(source, task[1]))


def _of_shard(source: Source, shard: int) -> Iterator[Checked]:
    try:
        for where, row in source.shards.rows(shard):
            yield _check_row(row, where, source)
    except BTCChatError as error:
        where = f"{source.shards.path} shard {shard + 1}"
        yield Checked(where, faults=[("row", f"{error}; what is behind it was not read")])


def _of_rows(source: Source, indices: range | np.ndarray) -> Iterator[Checked]:
    for index in indices:
        yield _check_row(source.rows[int(index)], f"{source.rows.name} row {index + 1}", source)


def _check_row(row: object, where: str, source: Source) -> Checked:
    """A row with the faults of itself, its files and its text."""
    checked, processor, add_clue = Checked(where), _shared["processor"], _shared["add_clue"]
    turns = row.get("conversations") if isinstance(row, dict) else None
    for number, turn in enumerate(turns if isinstance(turns, list) else [], start=1):
        if isinstance(turn, dict) and turn.get("from") == "gpt" and not str(turn.get("value", "?")).strip():
            checked.faults.append(("answer", f"turn {number} is an answer without text"))
    try:
        record = parse(row, where, source.image_root)
    except BTCChatError as error:
        if not checked.faults:  # an answer without text is told already
            checked.faults.append(("row", str(error).removeprefix(f"{where}: ")))
        return checked
    checked.modality = record.modality
    frames = _check_files(record, checked, processor.config.num_video_frames)
    if frames is None:
        return checked
    if add_clue is not None:
        try:
            record = add_clue(record, ())
        except BTCChatError as error:
            checked.faults.append(("clue", str(error).removeprefix(f"{record.where}: ")))
    _check_text(record, frames, checked, processor, source.captions)
    return checked


def _check_files(record: Record, checked: Checked, num_video_frames: int) -> int | None:
    """-> how many frames the model is given; None where a file has a fault."""
    sources = record.sources if isinstance(record.sources, list) else [record.sources]
    one_video = record.modality == "video" and len(sources) == 1
    opened = [_video(sources[0], num_video_frames)] if one_video else [_image(source) for source in sources]
    for source, result in zip(sources, opened, strict=True):
        if result.fault:
            checked.faults.append(result.fault)
        else:
            checked.files.append((str(source), result.size))
    if any(result.fault for result in opened):
        return None
    sizes = sorted({result.size for result in opened})
    if record.modality in ("pair", "series") and len(sizes) > 1:
        told = ", ".join(f"{width} x {height}" for width, height in sizes)
        checked.faults.append(("sizes", f"the dates differ in size: {told}"))
    frames = sum(result.frames for result in opened)
    return min(frames, num_video_frames) if record.modality == "video" else frames


@dataclass(frozen=True)
class Opened:
    """A file that was decoded, or its fault."""

    size: Size | None = None
    frames: int = 0
    fault: tuple[str, str] | None = None


def _image(source) -> Opened:
    return _image_file(source) if isinstance(source, str) else _opened(source, "image", lambda: [load_image(source)])


@lru_cache(maxsize=4096)  # rows of the same images often follow one another
def _image_file(path: str) -> Opened:
    return _opened(path, "image", lambda: [load_image(path)])


def _video(source, num_video_frames: int) -> Opened:
    return _opened(source, "video", lambda: load_frames("video", source, num_video_frames))


def _opened(source, kind: str, load) -> Opened:
    if isinstance(source, str) and not os.path.exists(source):
        return Opened(fault=("missing", f"{kind} '{source}' not found"))
    try:
        frames = load()
    except BTCChatError as error:
        return Opened(fault=("unreadable", str(error)))
    return Opened(frames[0].size, len(frames))


def _check_text(record: Record, frames: int, checked: Checked, processor: Processor, captions: bool) -> None:
    if captions and record.captions:
        try:
            record = record.with_caption(max(range(len(record.captions)), key=lambda i: len(record.captions[i])))
        except BTCChatError as error:  # no answer is one of them
            checked.faults.append(("row", str(error).removeprefix(f"{record.where}: ")))
            return
    try:
        turns = processor.turns(record, frames)
    except BTCChatError as error:
        checked.faults.append(("placeholders", str(error)))
        return
    try:
        encoded = prompt.encode(turns, processor.tokenizer, processor.template, train=True)
    except BTCChatError as error:  # e.g. it ends with a question
        checked.faults.append(("row", str(error)))
        return
    lengths = processor.layout.lengths(record.modality, frames)
    checked.tokens = encoded.merged_length(lengths)
    if checked.tokens > processor.max_length:
        made_of = prompt.describe_length(encoded, lengths)
        fault = f"{checked.tokens} tokens ({made_of}), the model reads {processor.max_length}"
        checked.faults.append(("length", fault))
