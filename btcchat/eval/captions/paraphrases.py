"""Extract the part of METEOR's paraphrase table that a set of texts can use.

The published table has 5.3 million pairs of phrases (272 MB), and the jar spends most of its time and memory loading
them. A pair with a word that is not in the texts cannot match, so leaving it out changes no score.

Reading the whole table takes seconds, so the pairs that a set of words can use are cached in the user's cache folder.
Texts from the same data set have almost the same words; new words are added to the cached set.
"""

import gzip
import json
import logging
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from itertools import compress
from pathlib import Path

from btcchat.errors import BTCChatError
from btcchat.files import atomic_write

log = logging.getLogger(__name__)
_RUN = re.compile(rb"[a-z0-9]+")
# METEOR's tokeniser removes an apostrophe or full stop inside a word ("1990's") and joins the parts.
_JOINED = re.compile(rb"(?=(?<![a-z0-9])([a-z0-9]+)[^a-z0-9\s]([a-z0-9]+))")
_CHUNK = 1 << 16  # compressed bytes at a time; larger blocks are slower, as their memory is freed and allocated again
_GZIP = 31  # how zlib selects gzip; faster than the module gzip
MOST_WORDS = 50_000  # cached words at most: with more data sets, the cache would grow as large as the table


def write_relevant(table: str | Path, texts: Iterable[str], path: str | Path) -> int:
    """Write to ``path`` (gzip) the pairs of ``table`` whose words all occur in ``texts``; return how many.

    A word is a run of lower-case ASCII letters and digits, in texts and table; everything else separates words. METEOR
    splits only at such places, so this may keep more pairs than it can use, never fewer.
    """
    text = "\n".join(texts).lower().encode("utf-8", "replace")
    words = set(_RUN.findall(text)) | {a + b for a, b in _JOINED.findall(text)}
    store, mark = cache_folder() / "paraphrases.gz", _mark(table)
    known, lines = _read(store, mark)
    if not words <= known:
        known = words | known if len(words | known) <= MOST_WORDS else words
        usable = _checking(known)
        lines = [line for part in _triples(table) for line in _usable(part, usable)]
        _keep(store, mark, known, lines)
    kept = _usable(lines, _checking(words))
    with gzip.open(path, "wb", compresslevel=1) as out:
        out.writelines(line + b"\n" for line in kept)
    return len(kept) // 3


def cache_folder() -> Path:
    """The cache folder of this user, which may not exist; anything in it is recomputed if it is removed."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "btcchat"


def _mark(table: str | Path) -> str:
    """Identify a table by its size and the checksum at the end of the file."""
    with open(table, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        return f"{size} {file.read().hex()}"


def _read(store: Path, mark: str) -> tuple[set[bytes], list[bytes]]:
    """The words and the lines of usable pairs; nothing if ``store`` is damaged or its mark is not ``mark``."""
    try:
        with gzip.open(store, "rb") as file:
            head, *lines = file.read().removesuffix(b"\n").split(b"\n")
        about = json.loads(head)
        if about["table"] == mark and len(lines) % 3 == 0:
            return set(about["words"].encode("ascii").split()), lines
    except FileNotFoundError:
        pass
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, AttributeError) as error:
        log.debug("%s is not used: %s", store, error)
    return set(), []


def _keep(store: Path, mark: str, words: set[bytes], lines: list[bytes]) -> None:
    """Write what `_read` reads; if the folder is not writable, the next run recomputes it."""
    head = {"table": mark, "words": b" ".join(sorted(words)).decode("ascii")}
    with suppress(BTCChatError), atomic_write(store) as part, gzip.open(part, "wb", compresslevel=1) as out:
        out.writelines(line + b"\n" for line in (json.dumps(head).encode("ascii"), *lines))


def _checking(words: set[bytes]) -> Callable[[bytes], bool]:
    """Whether the words of a phrase are all among ``words``; cached, since phrases repeat."""
    return cache(lambda phrase: words.issuperset(_RUN.findall(phrase)))


def _usable(lines: list[bytes], usable: Callable[[bytes], bool]) -> list[bytes]:
    """The lines of the pairs whose phrases are both usable."""
    phrases = lines[1::3]
    first = {phrase for phrase in set(phrases) if usable(phrase)}
    numbers = compress(range(len(phrases)), map(first.__contains__, phrases))
    return [line for n in numbers if usable(lines[3 * n + 2]) for line in lines[3 * n : 3 * n + 3]]


def _triples(table: str | Path) -> Iterator[list[bytes]]:
    """Yield lists of whole lines, a multiple of three: probability, phrase, paraphrase."""
    rest: list[bytes] = [b""]
    unpack = zlib.decompressobj(_GZIP)
    with open(table, "rb") as file:
        while packed := file.read(_CHUNK):
            lines = (b"\n".join(rest) + unpack.decompress(packed)).split(b"\n")
            whole = (len(lines) - 1) // 3 * 3  # the last line may be incomplete
            rest = lines[whole:]
            yield lines[:whole]
    if not unpack.eof:
        raise BTCChatError(f"{table} is truncated; reinstall pycocoevalcap")
