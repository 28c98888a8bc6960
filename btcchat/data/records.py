"""Records: the rows of an annotation file (a JSON array, or JSONL), checked once and read lazily.

A row is LLaVA-style: ``{"modality", "image" | "images" | "video", "conversations": [{"from", "value"}, ...]}`` and
optionally ``dates`` (one a frame), ``task`` and ``clue``. Other keys are a data set's own and are left alone.
"""

import json
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from btcchat.data.media import MODALITIES
from btcchat.errors import BTCChatError, choose

CODES = list(MODALITIES)  # a modality's code is its index here
NEEDS = {
    "text": "none",
    "image": "1",
    "pair": "2 (before, after)",
    "series": "2 to 16 (one a date)",
    "video": "at least 1 frame, or a file",
}
MEDIA_KEYS = ("image", "images", "video")
SPEAKERS = ("human", "gpt")


@dataclass(frozen=True)
class Record:
    """A checked row. ``sources``: the frames' paths in time order, or one path of a video (a file or a folder)."""

    where: str  # "levir_cc.json row 17", for messages
    modality: str
    sources: list[str] | str
    conversations: list[dict]
    dates: list[str] | None = None
    task: str | None = None
    clue: str | None = None


class Records:
    """The rows of one annotation file. A row is read when asked for; 18 bytes a row stay in memory.

    Every row is checked here, so a bad one stops a run before its first step. Rows count from 1.
    ``modality_codes`` (index into CODES), ``frames`` (-1: the video decides) and ``characters`` (of the
    conversation) tell a row's size without reading it. Raises BTCChatError naming file and row.
    """

    def __init__(self, path: str | Path, image_root: str | Path):
        self.path, self.image_root = Path(path), str(image_root)
        if not self.path.is_file():
            raise BTCChatError(f"annotation file {self.path} does not exist; check --data_root and the mixture's YAML")
        self._offsets, self._sizes = array("q"), array("i")  # bytes
        self.modality_codes, self.frames, self.characters = array("b"), array("b"), array("i")
        for number, (offset, size, row) in enumerate(_rows(self.path), start=1):
            record = parse(row, self._where(number), self.image_root)
            self._offsets.append(offset)
            self._sizes.append(size)
            self.modality_codes.append(CODES.index(record.modality))
            self.frames.append(-1 if isinstance(record.sources, str) else min(len(record.sources), 127))
            self.characters.append(sum(len(turn["value"]) for turn in record.conversations))
        if not len(self):
            raise BTCChatError(f"{self.path} has no records")

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> Record:
        with self.path.open("rb") as file:  # opened each time: no handle to share with DataLoader workers
            file.seek(self._offsets[index])
            row = json.loads(file.read(self._sizes[index]))
        return parse(row, self._where(index + 1), self.image_root)

    def _where(self, number: int) -> str:
        return f"{self.path.name} row {number}"


def parse(row: dict, where: str, image_root: str) -> Record:
    """Check a row against the schema and join its paths to ``image_root``. Raises BTCChatError that names ``where``."""
    if not isinstance(row, dict):
        raise BTCChatError(f"{where}: a {type(row).__name__}, a record is a JSON object")
    if "modality" not in row:
        raise BTCChatError(f"{where}: no 'modality'; give one of {', '.join(MODALITIES)}")
    try:
        fewest, most = choose("modality", str(row["modality"]), MODALITIES)
    except BTCChatError as error:
        raise BTCChatError(f"{where}: {error}") from None
    modality, needs = row["modality"], NEEDS[row["modality"]]
    sources = _sources(row, where, image_root)
    if isinstance(sources, list) and (len(sources) < fewest or (most is not None and len(sources) > most)):
        raise BTCChatError(f"{where}: {_count(len(sources))}, {_a(modality)} needs {needs}")
    if isinstance(sources, str) and modality != "video":
        raise BTCChatError(f"{where}: a 'video' path, but modality '{modality}' needs {needs}")
    for key, kind in (("dates", list), ("task", str), ("clue", str)):
        if row.get(key) is not None and not isinstance(row[key], kind):
            raise BTCChatError(f"{where}: '{key}' is a {type(row[key]).__name__}, expected a {kind.__name__}")
    dates = row.get("dates")
    if dates is not None and (not isinstance(sources, list) or len(dates) != len(sources)):
        raise BTCChatError(f"{where}: {len(dates)} dates, expected one for each image")
    conversations = _conversations(row, where)
    return Record(where, modality, sources, conversations, dates, row.get("task"), row.get("clue"))


def _sources(row: dict, where: str, image_root: str) -> list[str] | str:
    given = [key for key in MEDIA_KEYS if row.get(key) is not None]
    if len(given) > 1:
        raise BTCChatError(f"{where}: both '{given[0]}' and '{given[1]}'; a record has one of {', '.join(MEDIA_KEYS)}")
    if not given:
        return []
    value = row[given[0]]
    paths = value if isinstance(value, list) else [value]
    for path in paths:
        if not isinstance(path, str) or not path:
            raise BTCChatError(f"{where}: {json.dumps(path)} in '{given[0]}', expected a path")
    joined = [os.path.join(image_root, path) for path in paths]  # five times as fast as pathlib, once a row
    return joined[0] if given[0] == "video" and not isinstance(value, list) else joined


def _conversations(row: dict, where: str) -> list[dict]:
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise BTCChatError(f"{where}: no 'conversations'; give a list of {{'from': 'human' | 'gpt', 'value': text}}")
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict) or turn.get("from") not in SPEAKERS or not isinstance(turn.get("value"), str):
            raise BTCChatError(f"{where}: turn {number} is not {{'from': 'human' | 'gpt', 'value': text}}")
    if not any(turn["from"] == "gpt" and turn["value"].strip() for turn in turns):
        raise BTCChatError(f"{where}: no answer; at least one turn 'from': 'gpt' must have text")
    return turns


def _a(word: str) -> str:
    return f"an {word}" if word == "image" else f"a {word}"


def _count(number: int) -> str:
    return f"{number} image" + ("s" if number != 1 else "")


def _rows(path: Path) -> Iterator[tuple[int, int, object]]:
    """Yield (byte offset, bytes, row) of every row, in order."""
    with path.open("rb") as file:
        first = file.read(64).lstrip()[:1]
    yield from (_array_rows(path) if first == b"[" else _line_rows(path))


def _line_rows(path: Path) -> Iterator[tuple[int, int, object]]:
    offset = 0
    with path.open("rb") as file:
        number = 0
        for line in file:
            if line.strip():
                number += 1
                yield offset, len(line), _loads(line, f"{path.name} row {number}")
            offset += len(line)


def _loads(line: bytes, where: str) -> object:
    try:
        return json.loads(line)
    except ValueError as error:  # json's and unicode's errors are ValueErrors
        raise BTCChatError(f"{where}: not JSON ({error})") from None


def _array_rows(path: Path) -> Iterator[tuple[int, int, object]]:
    """The elements of a JSON array, one decoded at a time; the text is held only while indexing."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BTCChatError(f"{path.name}: not UTF-8 ({error})") from None
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
        except json.JSONDecodeError as error:
            raise BTCChatError(f"{path.name} row {number}: not JSON ({error})") from None
        offset += len(text[position:start].encode())
        size = len(text[start:end].encode())
        yield offset, size, row
        position, offset, start = end, offset + size, skip(end)
        if text[start : start + 1] == ",":
            start = skip(start + 1)
        elif text[start : start + 1] != "]":
            raise BTCChatError(f"{path.name} row {number}: followed by neither ',' nor ']'; the file is cut or broken")
