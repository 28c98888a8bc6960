"""Check everything about a mixture before a training run: its rows, its files, and each fault.

Every row is read, even after a fault; its files are decoded, and its conversations are tokenised as in training.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context

import numpy as np
from PIL import Image

from btcchat import prompt
from btcchat.console.children import process_pool
from btcchat.data.check.agreement import check_agreement
from btcchat.data.check.table import Checked, Fault, Size
from btcchat.data.mixture import known_sets
from btcchat.data.mixture.mixture import located
from btcchat.data.mixture.sampling import sample
from btcchat.data.mixture.stream import Stream
from btcchat.data.mixture.terms import Term, terms
from btcchat.data.records import Record, parse
from btcchat.data.records.record import misspelt
from btcchat.data.records.rows import Rows, open_rows
from btcchat.data.records.shards import Shards
from btcchat.errors import BTCChatError
from btcchat.media import Reading, load_frames
from btcchat.media.source import Embedded
from btcchat.processor import Processor

AddClue = Callable[[Record, tuple[int, ...]], Record]  # (record, draw) -> the record with its clue: clues.apply
CHUNK = 32  # rows that a worker takes at a time


@dataclass
class CheckedSet:
    """A set to check: rows of an annotation file, or all shards of a streamed set."""

    name: str
    image_root: str
    source: Rows | Shards
    chosen: range  # which rows, or which shards
    captions: str = "written"  # how the captions of a record are used: one of sampling.CAPTIONS
    times: int = 1  # how often the mixture lists the set
    in_epoch: np.ndarray | None = None  # whether training uses each row; None if it uses all chosen rows
    broken: list[Checked] = field(default_factory=list)  # the error, if the rest of a file cannot be read

    @property
    def total(self) -> int | None:
        """The number of rows, or None for shards, whose rows are not counted."""
        return None if isinstance(self.source, Shards) else len(self.chosen) + len(self.broken)

    def tasks(self) -> list[range]:
        """The rows, or the shard, that a worker takes at a time."""
        size = 1 if isinstance(self.source, Shards) else CHUNK
        return [self.chosen[start : start + size] for start in range(0, len(self.chosen), size)]

    def samples(self, record: Record | None, row: int | None) -> int:
        """How often training sees a row in an epoch. record: None if the row cannot be read."""
        if row is not None and self.in_epoch is not None and not self.in_epoch[row]:
            return 0
        flattened = self.captions == "flatten_list" and record is not None and record.captions
        return self.times * (len(flattened) if flattened else 1)


def open_sets(mixture: str, *, data_root: str | None, folder: str | None, seed: int = 0) -> list[CheckedSet]:
    """Each set of the mixture once, even if it is repeated, and whole, even if a random share of it is used.

    seed: that of the training, which determines the rows of a random share. Raises BTCChatError for an unknown set, a
    missing annotation file, or a share larger than the set.
    """
    root = data_root or os.environ.get("BTCCHAT_DATA")
    sets: dict[str, CheckedSet] = {}
    for term in terms(mixture, known_sets(folder)):
        if term.label not in sets:
            sets[term.label] = _open_set(term, root, seed)
        else:
            sets[term.label].times += 1
    return list(sets.values())


def _open_set(term: Term, root: str | None, seed: int) -> CheckedSet:
    place = located(term, root)
    if place.streamed:
        shards = Stream(place.open_shards(), term).shards
        return CheckedSet(term.label, place.images, shards, range(len(shards)), term.captions)
    rows, count = open_rows(place.file, split=place.split, subset=place.subset), 0
    broken: list[Checked] = []
    try:
        for _ in rows.scan():
            count += 1
        if not count:
            broken.append(Checked(rows.name, faults=[("row", "has no records")]))
    except BTCChatError as error:
        where, _, fault = str(error).partition(": ")
        broken.append(Checked(where, faults=[("row", f"{fault}; the rest was not read")]))
    chosen = range(count) if broken else sample(term.sampling, count, name=term.name, seed=seed)
    in_epoch = None
    if not isinstance(chosen, range):  # a random share: all rows are checked, since another seed selects others
        in_epoch = np.zeros(count, bool)
        in_epoch[chosen] = True
        chosen = range(count)
    return CheckedSet(term.label, place.images, rows, chosen, term.captions, in_epoch=in_epoch, broken=broken)


@dataclass(frozen=True)
class Job:
    """The input of every worker process."""

    sets: list[CheckedSet]
    processor: Processor
    add_clue: AddClue | None


def check(
    sets: list[CheckedSet], processor: Processor, workers: int, add_clue: AddClue | None = None
) -> Iterator[tuple[str, Checked]]:
    """Yield (set, row) for every row, in order. workers: additional processes, 0 for none. add_clue: see `AddClue`."""
    job = Job(sets, processor, add_clue)
    tasks = [(number, rows) for number, checked_set in enumerate(sets) for rows in checked_set.tasks()]
    yield from ((checked_set.name, row) for checked_set in sets for row in checked_set.broken)
    with ExitStack() as stack:
        run: Callable[..., Iterable[list[Checked]]] = map
        if workers:
            run = stack.enter_context(process_pool(workers, get_context(), _start, (job,))).map
        else:
            _start(job)
        for (number, _), rows in zip(tasks, run(_checked, tasks), strict=True):
            yield from ((sets[number].name, row) for row in rows)


_shared: dict[str, Job] = {}  # "job": that of this worker process


def _start(job: Job) -> None:
    _shared["job"] = job
    _image_file.cache_clear()  # from an earlier check in this process; files may have changed since


def _checked(task: tuple[int, range]) -> list[Checked]:
    """Check the rows of a task: (number of the set, rows or shards)."""
    number, chosen = task
    checked_set = _shared["job"].sets[number]
    if isinstance(checked_set.source, Shards):
        return [row for shard in chosen for row in _of_shard(checked_set.source, shard, checked_set)]
    return list(_of_rows(checked_set.source, chosen, checked_set))


def _of_shard(shards: Shards, shard: int, checked_set: CheckedSet) -> Iterator[Checked]:
    try:
        for where, row in shards.rows(shard):
            yield _check_row(row, where, checked_set, None)
    except BTCChatError as error:
        where = f"{shards.path} shard {shard + 1}"
        yield Checked(where, faults=[("row", f"{error}; the rest was not read")])


def _of_rows(rows: Rows, chosen: range, checked_set: CheckedSet) -> Iterator[Checked]:
    for index in chosen:
        yield _check_row(rows[index], f"{rows.name} row {index + 1}", checked_set, index)


def _check_row(row: object, where: str, checked_set: CheckedSet, index: int | None) -> Checked:
    """Check a row, its files and its text. index: of the row in a file; None in a stream."""
    checked, job = Checked(where, samples=checked_set.samples(None, index)), _shared["job"]
    turns = row.get("conversations") if isinstance(row, dict) else None
    for number, turn in enumerate(turns if isinstance(turns, list) else [], start=1):
        if isinstance(turn, dict) and turn.get("from") == "gpt" and not str(turn.get("value", "?")).strip():
            checked.faults.append(("answer", f"turn {number} is an answer without text"))
    try:
        record = parse(row, where, checked_set.image_root)
        checked.faults += [("keys", hint) for hint in misspelt(record.row)]
    except BTCChatError as error:
        if not checked.faults:  # an answer without text is already reported
            checked.faults.append(("row", str(error).removeprefix(f"{where}: ")))
        return checked
    checked.modality = record.modality
    checked.samples = checked_set.samples(record, index)
    if fault := check_agreement(record, checked_set.image_root):
        checked.faults.append(fault)
    frames = _check_files(record, checked, job.processor)
    if frames is None:
        return checked
    if job.add_clue is not None:
        try:
            record = job.add_clue(record, ())
        except BTCChatError as error:
            checked.faults.append(("clue", str(error).removeprefix(f"{record.where}: ")))
    _check_text(record, frames, checked, job.processor, checked_set.captions != "written")
    return checked


def _check_files(record: Record, checked: Checked, processor: Processor) -> int | None:
    """Return how many frames the model sees; None if a file has a fault."""
    sources = record.files
    is_file = record.modality == "video" and len(sources) == 1
    num_video_frames, reading = processor.config.num_video_frames, processor.reading
    results = [_video(sources[0], num_video_frames)] if is_file else [_image(source, reading) for source in sources]
    opened: list[Opened] = []
    for source, result in zip(sources, results, strict=True):
        if isinstance(result, Opened):
            opened.append(result)
            checked.files.append((str(source), result.size))
        else:
            checked.faults.append(result)
    if len(opened) < len(results):
        return None
    sizes = sorted({result.size for result in opened})
    if record.modality in ("pair", "series") and len(sizes) > 1:
        listed = ", ".join(f"{width} x {height}" for width, height in sizes)
        checked.faults.append(("sizes", f"the images of the dates differ in size: {listed}"))
    frames = sum(result.frames for result in opened)
    return min(frames, num_video_frames) if record.modality == "video" else frames


@dataclass(frozen=True)
class Opened:
    """A decoded file."""

    size: Size
    frames: int


def _image(source: str | Embedded, reading: Reading) -> Opened | Fault:
    if isinstance(source, str):
        return _image_file(source, reading)
    return _decoded(source, "image", lambda: load_frames("image", source, reading=reading))


@lru_cache(maxsize=4096)  # rows with the same images are often consecutive
def _image_file(path: str, reading: Reading) -> Opened | Fault:
    return _decoded(path, "image", lambda: load_frames("image", path, reading=reading))


def _video(source: str | Embedded, num_video_frames: int) -> Opened | Fault:
    return _decoded(source, "video", lambda: load_frames("video", source, num_video_frames))


def _decoded(source: str | Embedded, kind: str, load: Callable[[], list[Image.Image]]) -> Opened | Fault:
    if isinstance(source, str) and not os.path.exists(source):
        return "missing", f"{kind} '{source}' not found"
    try:
        frames = load()
    except BTCChatError as error:
        return "unreadable", str(error)
    return Opened(frames[0].info.get("full_size", frames[0].size), len(frames))


def _check_text(record: Record, frames: int, checked: Checked, processor: Processor, captions: bool) -> None:
    if captions and record.captions:
        characters = [len(caption) for caption in record.captions]
        try:
            record = record.with_caption(characters.index(max(characters)))
        except BTCChatError as error:  # none of them is an answer in the conversation
            checked.faults.append(("row", str(error).removeprefix(f"{record.where}: ")))
            return
    try:
        turns = processor.turns(record, frames)
    except BTCChatError as error:
        checked.faults.append(("placeholders", str(error)))
        return
    try:
        encoded = prompt.encode(turns, processor.tokenizer, processor.template, train=True)
    except BTCChatError as error:  # for example, it ends with a question
        checked.faults.append(("row", str(error)))
        return
    lengths = processor.layout.lengths(record.modality, frames)
    checked.tokens = encoded.merged_length(lengths)
    if checked.tokens > processor.max_length:
        made_of = prompt.describe_length(encoded, lengths)
        fault = f"{checked.tokens} tokens ({made_of}), but the model only reads {processor.max_length}"
        checked.faults.append(("length", fault))
