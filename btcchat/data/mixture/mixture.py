"""Mixtures of data sets: ``a+b*3`` takes set a once and set b three times."""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from btcchat.data.mixture.descriptions import known_sets, mixture_folder
from btcchat.data.mixture.faults import BAD_SAMPLES, BadSample, made
from btcchat.data.mixture.selection import Selection
from btcchat.data.mixture.stream import Chunks, Stream, StreamMixture
from btcchat.data.mixture.terms import Term, parse_mixture, terms
from btcchat.data.records import CODES, Record, Records
from btcchat.data.records.rows import HUB
from btcchat.data.records.shards import Shards, is_tar, open_shards
from btcchat.errors import BTCChatError, choose, wrong_type
from btcchat.media.frames import evenly

T = TypeVar("T")
__all__ = ["Mixture", "build_datasets", "known_sets", "mixture_folder", "parse_mixture", "terms"]


class Mixture(Generic[T]):
    """The samples of several sets, one set after another: ``mixture[i]`` is ``make_sample(record)``.

    A set listed n times counts n times. ``make_sample`` may raise BTCChatError; the file and row of the record are
    added to it (with bad_samples "skip", the sample is a BadSample instead). ``mixture[epoch, i]`` matters if captions
    are chosen at random, since each epoch draws again.
    """

    def __init__(
        self, sets: list[Selection], make_sample: Callable[[Record], T], *, seed: int = 0, bad_samples: str = "stop"
    ):
        self.sets, self.make_sample, self.seed, self.bad_samples = sets, make_sample, seed, bad_samples
        self.augment: Callable[[Record, tuple[int, ...]], Record] | None = None  # (record, draw) -> the record to learn
        self._ends = list(accumulate(len(selection) for selection in sets))

    def __len__(self) -> int:
        return self._ends[-1]

    def record(self, index: int, epoch: int = 0) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self._ends, index)
        start = self._ends[number - 1] if number else 0
        return self.sets[number].record(index - start, (self.seed, epoch, index))

    def __getitem__(self, index: int | tuple[int, int]) -> T | BadSample:
        epoch, index = index if isinstance(index, tuple) else (0, index)

        def draw() -> Record:
            record = self.record(index, epoch)
            return record if self.augment is None else self.augment(record, (self.seed, epoch, index))

        return made(draw, self.make_sample, self.bad_samples)

    def modality(self, index: int) -> str:
        """The modality of one sample, without reading it."""
        number = bisect_right(self._ends, index)
        return self.sets[number].modality(index - (self._ends[number - 1] if number else 0))

    def set_name(self, index: int) -> str:
        """The set that a sample comes from, as written in the mixture."""
        return self.sets[bisect_right(self._ends, index)].term.label

    def some(self, wanted: int) -> Iterator[Record]:
        """At most this many records, evenly spaced from the first to the last."""
        return (self.record(index) for index in evenly(len(self), wanted))

    def lengths(self, estimate: Callable[[str, int, int], int]) -> np.ndarray:
        """``estimate(modality, frames, characters)`` for every sample, without reading it. frames -1: a video."""
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
        return np.concatenate([selection.of_rows(per_row[id(selection.records)]) for selection in self.sets])


def build_datasets(
    mixture: str,
    make_sample: Callable[[Record], T],
    *,
    data_root: str | Path | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
    bad_samples: str = "stop",
) -> Mixture[T] | StreamMixture[T]:
    """Build the mixture ``"a+b@first:500*3"``, ``"mine.yaml"``, or a named one: see `terms`.

    data_root: the folder that paths are relative to, by default the environment variable BTCCHAT_DATA. folder: the
    user's own YAML files. seed: for every random choice. bad_samples: stop or skip. If a set is streamed, so is the
    mixture. Raises BTCChatError for an unknown name (the choices are listed), a bad repeat, a missing file, a bad
    record.
    """
    if not isinstance(mixture, str):
        raise wrong_type("mixture", mixture, "a string such as 'levir_cc+cdvqa*2'")
    for name, path in (("data_root", data_root), ("folder", folder)):
        if path is not None and not isinstance(path, str | Path):
            raise wrong_type(name, path, "a path")
    choose("bad_samples value", bad_samples, dict.fromkeys(BAD_SAMPLES))
    wanted = terms(mixture, known_sets(folder))
    root = data_root or os.environ.get("BTCCHAT_DATA")
    opened: dict[tuple[str, ...], Records | Shards] = {}
    sets: list[Selection | Stream] = []
    for term in wanted:
        place = tuple(str(term.description.get(key)) for key in ("annotation", "images", "split", "subset"))
        if place not in opened:
            opened[place] = open_set(term, root)
        source = opened[place]
        sets.append(Selection(source, term, seed) if isinstance(source, Records) else Stream(source, term))
    selections = [member for member in sets if isinstance(member, Selection)]
    if len(selections) == len(sets):
        return Mixture(selections, make_sample, seed=seed, bad_samples=bad_samples)
    streams = [member if isinstance(member, Stream) else Chunks(member) for member in sets]
    return StreamMixture(streams, make_sample, seed=seed, bad_samples=bad_samples)


@dataclass(frozen=True)
class Location:
    """Where a set is read from."""

    name: str  # name of the set, for errors
    annotation: list[str]
    images: str
    split: str  # for a data set of the hub, like subset
    subset: str | None
    streamed: bool

    @property
    def file(self) -> str:
        """The annotation of a set that is not streamed."""
        if len(self.annotation) > 1:
            raise BTCChatError(
                f"data set '{self.name}': a list of files is only for tar shards; describe each file as a separate set"
            )
        return self.annotation[0]

    def open_shards(self) -> Shards:
        return open_shards(self.annotation, self.images, split=self.split, subset=self.subset)


def located(term: Term, root: str | Path | None) -> Location:
    """The location of a set, with its paths relative to ``root``."""
    description = term.description
    paths = description["annotation"]
    annotation = [_under(root, path, term.name) for path in (paths if isinstance(paths, list) else [paths])]
    return Location(
        term.name,
        annotation,
        _under(root, description["images"], term.name),
        split=description.get("split", "train"),
        subset=description.get("subset"),
        streamed=bool(description.get("streaming")) or is_tar(annotation[0]),
    )


def open_set(
    term: Term, root: str | Path | None, visit: Callable[[Record], None] = lambda record: None
) -> Records | Shards:
    """The Records of a set, or its shards if it is streamed. visit: see `Records`."""
    place = located(term, root)
    if place.streamed:
        return place.open_shards()
    return Records(place.file, place.images, split=place.split, subset=place.subset, visit=visit)


def _under(root: str | Path | None, path: str, name: str) -> str:
    path = str(path)
    if path.startswith(HUB) or "://" in path or os.path.isabs(path):
        return path
    if not root:
        raise BTCChatError(
            f"data set '{name}': {path} needs a data folder; give --data_root or set the environment variable "
            "BTCCHAT_DATA"
        )
    return os.path.join(root, path)
