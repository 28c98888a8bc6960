"""What a mixture takes from a set.

Records: ``all``, ``first:N``, ``end:N``, ``random:N``, ``N%``. Captions of a record: the one ``written`` in the
conversation, ``random_choice`` (one, drawn again each epoch), ``flatten_list`` (a sample for each).
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
    """The rows of ``total`` that a mixture takes.

    ``N%`` is a random share; ``first:N%`` and the like are shares too, rounded up. Random rows depend on the seed and
    the name of the set, so they are the same in every epoch and process. Raises BTCChatError if the set has fewer rows
    than requested.
    """
    match = _SAMPLING.fullmatch(sampling)
    if match is None:
        raise BTCChatError(f"data set '{name}': unknown sampling '{sampling}'; use all, first:N, end:N, random:N or N%")
    if sampling == "all":
        return range(total)
    way, number, percent, share = match.groups()
    way = way or "random"
    wanted = math.ceil(total * float(share or number) / 100) if share or percent else int(number)
    if not 0 < wanted <= total:
        raise BTCChatError(f"data set '{name}': sampling '{sampling}' needs {wanted} records, but it has {total}")
    if way == "random":
        random = np.random.default_rng((seed, zlib.crc32(name.encode())))
        return np.sort(random.choice(total, wanted, replace=False))
    return range(wanted) if way == "first" else range(total - wanted, total)


def captioned(record: Record, captions: str, draw: tuple[int, ...]) -> list[Record]:
    """A record as written, with one of its captions (the same for the same draw), or once with each of them."""
    if captions == "written" or not record.captions:
        return [record]
    if captions == "flatten_list":
        return [record.with_caption(number) for number in range(len(record.captions))]
    return [record.with_caption(int(np.random.default_rng(draw).integers(len(record.captions))))]
