"""Mixtures of data sets: ``a+b*3`` is set a once and set b three times."""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from btcchat.data.mixture.descriptions import known_sets, mixture_folder
from btcchat.data.mixture.faults import BAD_SAMPLES, BadSample, made
from btcchat.data.mixture.sampling import captioned, sample
from btcchat.data.mixture.stream import Chunks, Stream, StreamMixture
from btcchat.data.mixture.terms import Term, parse_mixture, terms
from btcchat.data.records import CODES, Record, Records
from btcchat.data.records.rows import HUB
from btcchat.data.records.shards import Shards, is_tar, open_shards
from btcchat.errors import BTCChatError, choose
from btcchat.media.frames import evenly

__all__ = ["Mixture", "Selection", "build_datasets", "known_sets", "mixture_folder", "parse_mixture", "terms"]


class Selection:
    """The samples of one set: those of its records that are wanted; flattened, one for each caption of a record."""

    def __init__(self, records: Records, term: Term, seed: int):
        self.records, self.term, self.captions = records, term, term.captions
        self.rows: Sequence[int] = sample(term.sampling, len(records), name=term.name, seed=seed)
        self._caption_of: np.ndarray | None = None
        if term.captions == "flatten_list":
            counts = np.maximum(_at(np.asarray(records.num_captions), self.rows), 1)
            self.rows = np.repeat(self.rows, counts)
            starts = np.repeat(np.cumsum(counts) - counts, counts)
            self._caption_of = np.arange(len(self.rows)) - starts

    def __len__(self) -> int:
        return len(self.rows)

    def record(self, index: int, draw: tuple[int, ...]) -> Record:
        """draw: what the choice of a caption at random depends on."""
        choices = captioned(self.records[int(self.rows[index])], self.captions, draw)
        return choices[0 if self._caption_of is None else self._caption_of[index]]

    def modality(self, index: int) -> str:
        return CODES[self.records.modality_codes[int(self.rows[index])]]


class Mixture:
    """The samples of several sets, one set after another: ``mixture[i]`` is ``make_sample(record)``.

    A set listed n times counts n times. ``make_sample`` may raise BTCChatError; the record's file and row are added
    (bad_samples "skip": the sample is then a BadSample). ``mixture[epoch, i]`` matters where captions are chosen at
    random: each epoch draws anew.
    """

    def __init__(
        self, sets: list[Selection], make_sample: Callable[[Record], dict], *, seed: int = 0, bad_samples: str = "stop"
    ):
        self.sets, self.make_sample, self.seed, self.bad_samples = sets, make_sample, seed, bad_samples
        self.augment: Callable[[Record, tuple[int, ...]], Record] | None = None  # (record, draw) -> what is learned
        self._ends = list(accumulate(len(selection) for selection in sets))

    def __len__(self) -> int:
        return self._ends[-1]

    def record(self, index: int, epoch: int = 0) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(index)
        which = bisect_right(self._ends, index)
        start = self._ends[which - 1] if which else 0
        return self.sets[which].record(index - start, (self.seed, epoch, index))

    def __getitem__(self, index: int | tuple[int, int]) -> dict | BadSample:
        epoch, index = index if isinstance(index, tuple) else (0, index)

        def draw() -> Record:
            record = self.record(index, epoch)
            return record if self.augment is None else self.augment(record, (self.seed, epoch, index))

        return made(draw, self.make_sample, self.bad_samples)

    def modality(self, index: int) -> str:
        """Of one sample, without reading it."""
        which = bisect_right(self._ends, index)
        return self.sets[which].modality(index - (self._ends[which - 1] if which else 0))

    def some(self, wanted: int) -> Iterator[Record]:
        """At most so many records, evenly from the first to the last."""
        return (self.record(index) for index in evenly(len(self), wanted))

    def lengths(self, estimate: Callable[[str, int, int], int]) -> np.ndarray:
        """``estimate(modality, frames, characters)`` of every sample, without reading one. frames -1: a video."""
        per_row = {
            id(records): np.fromiter(
                (
                    estimate(CODES[code], frames, characters)
                    for code, frames, characters in zip(
                        records.modality_codes, records.frames, records.characters, strict=True
                    )
                ),
                dtype=np.int32,
                count=len(records),
            )
            for records in {id(selection.records): selection.records for selection in self.sets}.values()
        }
        return np.concatenate([_at(per_row[id(one.records)], one.rows) for one in self.sets])


def _at(values: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    return values[rows.start : rows.stop] if isinstance(rows, range) else values[rows]


def build_datasets(
    mixture: str,
    make_sample: Callable[[Record], dict],
    *,
    data_root: str | Path | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
    bad_samples: str = "stop",
) -> Mixture | StreamMixture:
    """The mixture ``"a+b@first:500*3"``, ``"mine.yaml"``, or the name of one: see `terms`.

    data_root: what paths are relative to; default the environment variable BTCCHAT_DATA. folder: YAML files of the
    user's own. seed: of what is random in it. bad_samples: stop or skip. Where a set is streamed, so is the mixture.
    Raises BTCChatError for an unknown name (the choices are listed), a bad repeat, a missing file, a bad record.
    """
    choose("treatment of bad samples", bad_samples, dict.fromkeys(BAD_SAMPLES))
    wanted = terms(mixture, known_sets(folder))
    root = data_root or os.environ.get("BTCCHAT_DATA")
    opened: dict[tuple, Records | Stream] = {}
    sets = []
    for term in wanted:
        place = tuple(str(term.description.get(key)) for key in ("annotation", "images", "split", "subset"))
        if place not in opened:
            opened[place] = open_set(term, root)
        source = opened[place]
        sets.append(Selection(source, term, seed) if isinstance(source, Records) else Stream(source, term))
    if not any(isinstance(one, Stream) for one in sets):
        return Mixture(sets, make_sample, seed=seed, bad_samples=bad_samples)
    streams = [one if isinstance(one, Stream) else Chunks(one) for one in sets]
    return StreamMixture(streams, make_sample, seed=seed, bad_samples=bad_samples)


def located(term: Term, root: str | Path | None) -> tuple[list[str], str, dict]:
    """A set's annotation files, image root and other options of reading, with ``root`` in front of the paths."""
    row = term.description
    given = row["annotation"]
    annotation = [_under(root, path, term.name) for path in (given if isinstance(given, list) else [given])]
    options = {key: row[key] for key in ("split", "subset") if key in row}
    return annotation, _under(root, row["images"], term.name), options


def is_streamed(term: Term, annotation: list[str]) -> bool:
    return bool(term.description.get("streaming")) or is_tar(annotation[0])


def open_set(
    term: Term, root: str | Path | None, visit: Callable[[Record], None] = lambda record: None
) -> Records | Shards:
    """The Records, or where it is streamed the shards, of a set. visit: see `Records`."""
    annotation, images, options = located(term, root)
    if is_streamed(term, annotation):
        return open_shards(annotation, images, **options)
    return Records(one_file(term, annotation), images, visit=visit, **options)


def one_file(term: Term, annotation: list[str]) -> str:
    """The annotation of a set that is not streamed."""
    if len(annotation) > 1:
        raise BTCChatError(f"data set '{term.name}': a list of files is for tar shards; describe each file as a set")
    return annotation[0]


def _under(root: str | Path | None, path: str, name: str) -> str:
    path = str(path)
    if path.startswith(HUB) or "://" in path or os.path.isabs(path):
        return path
    if not root:
        raise BTCChatError(
            f"data set '{name}': no folder of data that {path} is in; give --data_root or set the environment "
            "variable BTCCHAT_DATA"
        )
    return os.path.join(root, path)
