"""Rows of annotation files with random access; each row is a dict.

Rows count from 0 here, and from 1 in messages. A line of JSONL that is not JSON is replaced by a BTCChatError, so that
the lines after it can still be read.
"""

import json
import os
from array import array
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any, Protocol

from btcchat.errors import BTCChatError, not_utf8
from btcchat.files import REPAIR, bounded_lines, parse_json, why_not_json
from btcchat.limits.regular import regular

HUB = "hub:"  # prefix of the id of a data set on the Hugging Face hub


class Rows(Protocol):
    """The rows of one annotation file, as JSON values that are not checked yet."""

    name: str  # of the file, for messages

    def scan(self) -> Iterator[Any]:
        """Every row once, in order; files embedded in a row need not be read."""

    def __getitem__(self, index: int, /) -> Any:
        """One row in full."""


def open_rows(annotation: str | Path, *, split: str = "train", subset: str | None = None) -> Rows:
    """The rows of a file (.json, .jsonl, .parquet; ``*.parquet`` for several), a folder (a saved ``datasets.Dataset``,
    or Parquet files), or ``hub:OWNER/NAME``. Raises BTCChatError if the file does not exist, or if the package
    ``datasets`` is needed but not installed.
    """
    from btcchat.data.records.arrow_rows import ArrowRows, load, load_saved

    text = str(annotation)
    if text.startswith(HUB):
        return ArrowRows(load(text.removeprefix(HUB), split=split, subset=subset), text)
    if "://" in text:
        raise BTCChatError(f"annotation {text} is an address; download it, or give tar shards or {HUB}OWNER/NAME")
    path = Path(annotation)
    if os.path.isdir(path):
        if (path / "state.json").is_file():
            return ArrowRows(load_saved(text), path.name)
        return ArrowRows(load(text, split=split, subset=subset), path.name)
    if not (path.suffix == ".parquet" and "\0" not in text and glob(text)):
        try:
            regular(path)
        except FileNotFoundError:
            raise BTCChatError(
                f"annotation file {path} does not exist; write it with btcchat data convert, or check --data_root and "
                "the mixture's YAML"
            ) from None
        except OSError as error:
            raise BTCChatError(f"annotation file {path} cannot be read: {error.strerror}") from None
    if path.suffix == ".parquet":
        return ArrowRows(load("parquet", files=text, split="train"), path.name)
    return JsonRows(path)


class JsonRows:
    """A JSON array, or JSONL. Each row is read on demand; 12 bytes per row stay in memory."""

    def __init__(self, path: Path):
        self.path, self.name = path, path.name
        self._offsets, self._sizes = array("q"), array("i")  # bytes; known once scanned

    def scan(self) -> Iterator[object]:
        for number, (offset, size, row) in enumerate(_rows(self.path)):
            if number == len(self._offsets):  # the file may have changed when a row is read later
                self._offsets.append(offset)
                self._sizes.append(size)
            yield row

    def __getitem__(self, index: int) -> object:
        with regular(self.path).open("rb") as file:  # opened each time: no handle to share with DataLoader workers
            file.seek(self._offsets[index])
            return decoded(file.read(self._sizes[index]))


def _rows(path: Path) -> Iterator[tuple[int, int, object]]:
    """Yield (byte offset, bytes, row) of every row, in order."""
    with regular(path).open("rb") as file:
        first = file.read(64).lstrip()[:1]
    yield from (_array_rows(path) if first == b"[" else _line_rows(path))


def _line_rows(path: Path) -> Iterator[tuple[int, int, object]]:
    offset = 0
    with path.open("rb") as file:
        for line in bounded_lines(file, path.name):
            if line.strip():
                yield offset, len(line), decoded(line)
            offset += len(line)


def decoded(text: bytes) -> object:
    """The value of a JSON text, or a BTCChatError that says what is wrong with it."""
    try:
        return parse_json(text)
    except BTCChatError as error:
        return BTCChatError(f"{error}; {REPAIR}")


def _array_rows(path: Path) -> Iterator[tuple[int, int, object]]:
    """The elements of a JSON array, decoded one at a time; the text is only in memory while indexing."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(path.name, error) from None
    decode, whitespace = json.JSONDecoder().raw_decode, " \t\r\n"
    position, offset, number = text.index("[") + 1, text.index("[") + 1, 0

    def skip(start: int) -> int:
        while start < len(text) and text[start] in whitespace:
            start += 1
        return start

    start = skip(position)
    while text[start : start + 1] != "]":
        number += 1
        try:
            row, end = decode(text, start)
        except (ValueError, RecursionError) as error:
            raise BTCChatError(f"{path.name} row {number}: not JSON ({why_not_json(error)}); {REPAIR}") from None
        offset += len(text[position:start].encode())
        size = len(text[start:end].encode())
        yield offset, size, row
        position, offset, start = end, offset + size, skip(end)
        if text[start : start + 1] == ",":
            start = skip(start + 1)
        elif text[start : start + 1] != "]":
            raise BTCChatError(
                f"{path.name} row {number}: not followed by ',' or ']'; the file is truncated or damaged"
            )
