"""Mixtures with a set that is read sequentially: every process reads its own share of the shards."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Generic, TypeVar

import numpy as np

from btcchat.data.mixture.faults import BadSample, made
from btcchat.data.mixture.sampling import captioned
from btcchat.data.mixture.selection import Selection
from btcchat.data.mixture.terms import Term
from btcchat.data.records import Record
from btcchat.data.records.shards import Shards
from btcchat.errors import BTCChatError

T = TypeVar("T")
ROWS = 256  # records of an indexed set per shard


class Stream:
    """The shards of a set, and how the mixture uses its captions."""

    def __init__(self, shards: Shards, term: Term):
        if term.sampling != "all":
            raise BTCChatError(f"data set '{term.name}' is streamed and cannot be counted; leave out @{term.sampling}")
        self.shards, self.term, self.captions = shards, term, term.captions

    def __len__(self) -> int:
        return len(self.shards)

    def read(self, shard: int, draw: tuple[int, ...]) -> Iterator[Record]:
        for number, record in enumerate(self.shards.read(shard)):
            yield from captioned(record, self.captions, (*draw, number))


class Chunks:
    """An indexed selection in a mixture with streamed sets, as shards of 256 samples."""

    def __init__(self, selection: Selection):
        self.selection, self.term = selection, selection.term

    def __len__(self) -> int:
        return -(-len(self.selection) // ROWS)

    def read(self, shard: int, draw: tuple[int, ...]) -> Iterator[Record]:
        for index in range(shard * ROWS, min((shard + 1) * ROWS, len(self.selection))):
            yield self.selection.record(index, (*draw, index))


class StreamMixture(Generic[T]):
    """Sets as shards. A set listed n times counts n times, as in Mixture; the length of a set is counted in shards."""

    def __init__(self, sets: list[Stream | Chunks], make_sample: Callable[[Record], T], *, seed: int, bad_samples: str):
        self.sets, self.make_sample, self.seed, self.bad_samples = sets, make_sample, seed, bad_samples
        self.augment: Callable[[Record, tuple[int, ...]], Record] | None = None  # (record, draw) -> the record to learn

    def records(self, epoch: int, reader: int = 0, readers: int = 1) -> Iterator[Record]:
        """As `named_records`, without the names."""
        return (record for _, record in self.named_records(epoch, reader, readers))

    def named_records(self, epoch: int, reader: int = 0, readers: int = 1) -> Iterator[tuple[str, Record]]:
        """(name of its set, record) for one reader's share of an epoch; every record is in exactly one share.

        The shards are shuffled and divided among the readers; if there are fewer shards than readers, each reads all of
        them and keeps every ``readers``-th record.
        """
        shards = [(member, number) for member in self.sets for number in range(len(member))]
        order = np.random.default_rng((self.seed, epoch)).permutation(len(shards))
        dealt = len(shards) >= readers
        seen = 0
        for place, index in enumerate(order):
            if dealt and place % readers != reader:
                continue
            member, shard = shards[index]
            draw = (self.seed, epoch, int(index))
            for number, record in enumerate(member.read(shard, draw)):
                if dealt or seen % readers == reader:
                    augmented = record if self.augment is None else self.augment(record, (*draw, number))
                    yield member.term.label, augmented
                seen += 1

    def some(self, wanted: int) -> Iterator[Record]:
        """At most this many records of the first epoch."""
        return islice(self.records(0), wanted)

    def sample(self, record: Record) -> T | BadSample:
        return made(lambda: record, self.make_sample, self.bad_samples)
