"""What a mixture takes of a set.

Of its records: ``all``, ``first:N``, ``end:N``, ``random:N``, ``N%``. Of a record's captions: the one that is
``written`` in the conversation, ``random_choice`` (one, drawn again each epoch), ``flatten_list`` (a sample for each).
"""

import math
import re
import zlib
from typing import TypeAlias

import numpy as np

from btcchat.data.records import Record
from btcchat.errors import BTCChatError

RowNumbers: TypeAlias = range | np.ndarray  # ascending
CAPTIONS = ("written", "random_choice", "flatten_list")
_SAMPLING = re.compile(r"all|(first|end|random):(\d{1,12})(%?)|(\d{1,12}(?:\.\d{1,12})?)%", re.ASCII)


def is_sampling(text: str) -> bool:
    return _SAMPLING.fullmatch(text) is not None


def sample(sampling: str, total: int, *, name: str, seed: int) -> RowNumbers:
    """Which rows of ``total`` a set takes.

    ``N%`` is a random share; ``first:N%`` and its like are shares too, rounded up. Random rows depend on the seed and
    the set's name, so they are the same in every epoch, and on every process. Raises BTCChatError where the set has
    fewer rows than are wanted.
    """
    match = _SAMPLING.fullmatch(sampling)
    if match is None:
        raise BTCChatError(f"data set '{name}': sampling '{sampling}'; use all, first:N, end:N, random:N or N%")
    if sampling == "all":
        return range(total)
    way, number, percent, share = match.groups()
    way = way or "random"
    wanted = math.ceil(total * float(share or number) / 100) if share or percent else int(number)
    if not 0 < wanted <= total:
        raise BTCChatError(f"data set '{name}': sampling '{sampling}' is {wanted} records, it has {total}")
    if way == "random":
        random = np.random.default_rng((seed, zlib.crc32(name.encode())))
        return np.sort(random.choice(total, wanted, replace=False))
    return range(wanted) if way == "first" else range(total - wanted, total)


def captioned(record: Record, captions: str, draw: tuple[int, ...]) -> list[Record]:
    """A record as it is written, with one of its captions (the same for the same draw), or once with each of them."""
    if captions == "written" or not record.captions:
        return [record]
    if captions == "flatten_list":
        return [record.with_caption(number) for number in range(len(record.captions))]
    return [record.with_caption(int(np.random.default_rng(draw).integers(len(record.captions))))]
