"""Rows of published annotation files, one at a time: a file of a million rows is never loaded as a whole."""

from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import TextIO

from btcchat.errors import BTCChatError, not_utf8
from btcchat.files import REPAIR, json_kind, read_rows, why_not_json
from btcchat.limits import csv_file
from btcchat.media.source import existing_file

CHUNK = 2**20  # characters read at a time
_decode = JSONDecoder().raw_decode


def json_rows(path: Path, key: str | None = None) -> Iterator[tuple[int, dict]]:
    """Yield (number from 1, row) from a JSON array of objects, from the array at ``key`` of an object, or from JSON
    lines.


    Raises BTCChatError that names the file and row (the line in JSON lines) if it is not JSON or not an object.
    """
    existing_file(path, "annotation file")
    if path.suffix == ".jsonl":
        yield from enumerate((row for _, row in read_rows(path, whole=True)), start=1)
        return
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, row in enumerate(_elements(_Text(file, path.name), key), start=1):
                if not isinstance(row, dict):
                    raise BTCChatError(f"{path.name} row {number}: {json_kind(row)}, expected an object")
                yield number, row
    except UnicodeDecodeError as error:
        raise not_utf8(path.name, error) from error


def csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (number, row) from a CSV or TSV file with a header, which is row 1, as in a spreadsheet.

    Raises BTCChatError that names the file and row if a row has a different number of columns than the header.
    """
    existing_file(path, "annotation file")
    rows = csv_file.csv_rows(path, path.name)
    _, names = next(rows, (1, []))
    for number, cells in rows:
        if cells and len(cells) != len(names):
            raise BTCChatError(f"{path.name} row {number}: {len(cells)} columns, but the header has {len(names)}")
        if cells:
            yield number, dict(zip(names, cells, strict=True))


class _Text:
    """A JSON text read in pieces. Faults begin with ``place``."""

    def __init__(self, file: TextIO, place: str):
        self.file, self.place = file, place
        self.text, self.at, self.ended = "", 0, False

    def peek(self) -> str:
        """The next character that is not whitespace, "" at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in " \t\r\n":
                    return self.text[self.at]
                self.at += 1
            if self.ended:
                return ""
            self._more()

    def skip(self, expected: str) -> str:
        got = self.peek()
        if not got or got not in expected:
            words = " or ".join(f"'{character}'" for character in expected)
            raise self._not_json(f"expected {words}, got {repr(got) if got else 'the end'}")
        self.at += 1
        return got

    def value(self) -> object:
        self.peek()
        while True:
            try:
                value, end = _decode(self.text, self.at)
                if end < len(self.text) or self.ended:  # a number at the very end of a piece may continue in the next
                    self.at = end
                    return value
            except JSONDecodeError as error:  # the text read so far may end within the value
                if self.ended:
                    raise self._not_json(error.msg) from None
            except (ValueError, RecursionError) as error:
                raise self._not_json(why_not_json(error)) from None
            self._more()

    def _not_json(self, why: str) -> BTCChatError:
        return BTCChatError(f"{self.place}: not JSON ({why}); {REPAIR}")

    def _more(self) -> None:
        rest = self.text[self.at :]
        piece = self.file.read(max(CHUNK, len(rest)))  # doubled, so that one huge value is not decoded too many times
        self.text, self.at, self.ended = rest + piece, 0, not piece


def _elements(text: _Text, key: str | None) -> Iterator[object]:
    name = text.place
    if key is not None:
        text.skip("{")
        while text.value() != key:
            text.skip(":")
            text.value()
            if text.skip(",}") == "}":
                raise BTCChatError(f"{name}: no '{key}'; expected {{'{key}': [...]}}")
        text.skip(":")
    text.skip("[")
    number = 0
    while text.peek() != "]":
        number += 1
        text.place = f"{name} row {number}"
        yield text.value()
        if text.skip(",]") == "]":
            return
