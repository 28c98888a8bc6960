"""The part of METEOR's paraphrase table that a set of texts can use.

The published table has 5.3 million pairs of phrases (272 MB); the jar spends most of its time and memory on loading
them. A pair whose words are not all in the texts can match nothing, so leaving it out changes no score.
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import compress
from pathlib import Path

from btcchat.errors import BTCChatError

_RUN = re.compile(rb"[a-z0-9]+")
# Where METEOR's tokeniser takes an apostrophe or a stop out of a word ("1990's"), the word is joined again.
_JOINED = re.compile(rb"(?=(?<![a-z0-9])([a-z0-9]+)[^a-z0-9\s]([a-z0-9]+))")
_CHUNK = 1 << 16  # packed bytes at a time; of large ones the memory is freed and allocated again, which is slower
_GZIP = 31  # zlib's word for it; quicker than the module gzip


def write_relevant(table: str | Path, texts: Iterable[str], path: str | Path) -> int:
    """Write to ``path`` (gzip) the pairs of ``table`` all of whose words occur in ``texts``; -> how many.

    A word is a run of ASCII letters and digits in lower case; everything else separates, on both sides. METEOR cuts its
    tokens at such places only, so this keeps more pairs than it can use, never fewer.
    """
    text = "\n".join(texts).lower().encode("utf-8", "replace")
    words = set(_RUN.findall(text)) | {a + b for a, b in _JOINED.findall(text)}
    kept = 0
    checked: dict[bytes, bool] = {}

    def usable(phrase: bytes) -> bool:
        if phrase not in checked:
            checked[phrase] = words.issuperset(_RUN.findall(phrase))
        return checked[phrase]

    with gzip.open(path, "wb", compresslevel=1) as out:
        for lines in _triples(table):
            phrases = lines[1::3]
            first = {phrase for phrase in set(phrases) if usable(phrase)}
            for number in compress(range(len(phrases)), map(first.__contains__, phrases)):
                if usable(lines[3 * number + 2]):
                    out.write(b"\n".join(lines[3 * number : 3 * number + 3]) + b"\n")
                    kept += 1
    return kept


def _triples(table: str | Path) -> Iterator[list[bytes]]:
    """Lists of whole lines, a multiple of three: probability, phrase, paraphrase."""
    rest: list[bytes] = [b""]
    unpack = zlib.decompressobj(_GZIP)
    with open(table, "rb") as file:
        while packed := file.read(_CHUNK):
            lines = (b"\n".join(rest) + unpack.decompress(packed)).split(b"\n")
            whole = (len(lines) - 1) // 3 * 3  # the last one may be cut
            rest = lines[whole:]
            yield lines[:whole]
    if not unpack.eof:
        raise BTCChatError(f"{table} is cut off; install pycocoevalcap again")
