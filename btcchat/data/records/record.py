"""Records: the rows of an annotation file, checked once and read lazily.

A row is LLaVA-style: ``{"modality", "image" | "images" | "video", "conversations": [{"from", "value"}, ...]}`` and
optionally ``dates`` (one per frame), ``task``, ``clue``, ``captions`` (each of which could be the answer) and
``independent`` (true: none of its questions sees another or its answer). An image or video is a path, or ``{"bytes",
"path"}`` if it is embedded in the annotation file. Other keys belong to the data set and are ignored.
"""

import difflib
import os
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL.Image import Transpose

from btcchat.data.records.rows import open_rows
from btcchat.errors import BTCChatError, choose, wrong_type
from btcchat.files import KINDS, json_kind
from btcchat.media.frames import MODALITIES, NEEDS, PLACEHOLDER, Sources, check_count
from btcchat.media.placeholders import stray_placeholder
from btcchat.media.source import Embedded, existing_file

CODES = list(MODALITIES)  # the code of a modality is its index here
MEDIA_KEYS = ("image", "images", "video")
SPEAKERS = ("human", "gpt")
READ = ("modality", *MEDIA_KEYS, "conversations", "dates", "task", "clue", "captions", "independent")
READ_ELSEWHERE = ("id", "change_flag", "mask", "semantic_maps", "question_type", "label")
Shape: TypeAlias = tuple[str, int, int, int, bool, bool]  # see `shape`


@dataclass(frozen=True)
class Record:
    """A checked row, or a question (`processor.request`), which is a record whose last answer is missing.

    sources: its frames in chronological order, or one video (a file or a folder).
    """

    where: str  # "levir_cc.json row 17", for messages
    modality: str
    sources: Sources
    conversations: list[dict[str, str]]
    dates: list[str] | None = None
    task: str | None = None
    clue: str | None = None
    captions: list[str] | None = None
    independent: bool = False  # each of its questions is asked alone: see prompt/independent.py
    row: dict[str, Any] = field(default_factory=dict, repr=False)  # including keys that belong to the data set
    view: Transpose | None = None  # how its frames are shown
    image_root: str = ""  # the folder that the paths in ``row`` are relative to
    literal: bool = False  # its text was typed by a person: <image> in it is not a placeholder

    @property
    def files(self) -> list[str | Embedded]:
        """The sources that are files, as all sources of a row are, in chronological order."""
        sources = self.sources if isinstance(self.sources, list) else [self.sources]
        return [source for source in sources if isinstance(source, str | Embedded)]

    def alone(self) -> list["Record"]:
        """A record for each of its questions if they are independent; otherwise the record itself."""
        if not self.independent:
            return [self]
        turns = self.conversations[self.conversations[0]["from"] == "gpt" :]  # without a greeting
        return [replace(self, conversations=turns[start : start + 2]) for start in range(0, len(turns), 2)]

    def with_caption(self, number: int) -> "Record":
        """The same record with its caption ``number`` as the answer."""
        place = _captioned_turn(self)
        if self.captions is None or place is None:
            raise BTCChatError(f"{self.where}: no answer is one of its 'captions'; use one of them as the answer")
        turns = list(self.conversations)
        turns[place] = turns[place] | {"value": self.captions[number]}
        return replace(self, conversations=turns)


class Records:
    """The records of one annotation file. Each is read on demand; about 20 bytes per record stay in memory.

    Every row is checked here, so a bad row stops a run before its first step. Rows count from 1.
    ``modality_codes`` (index into CODES), ``frames`` (-1 for a video), ``characters`` (of the conversation,
    with the longest caption) and ``num_captions`` give a row's size without reading it. ``shapes`` has one row of each
    shape: whether the text of a row fits its frames is the same for all rows of a shape. split, subset: for a data
    set of the hub. visit: called with every record during the check. Raises BTCChatError naming file and row.
    """

    def __init__(
        self,
        path: str | Path,
        image_root: str | Path,
        *,
        split: str = "train",
        subset: str | None = None,
        visit: Callable[[Record], None] = lambda record: None,
    ):
        if not isinstance(path, str | Path):
            raise wrong_type("path", path, "a path")
        self.path, self.image_root = path, str(image_root)
        self.rows = open_rows(path, split=split, subset=subset)
        self.modality_codes, self.frames = array("b"), array("b")
        self.characters, self.num_captions = array("i"), array("i")
        self.shapes: dict[Shape, int] = {}
        for number, row in enumerate(self.rows.scan(), start=1):
            record = parse(row, self._where(number), self.image_root)
            visit(record)
            self.modality_codes.append(CODES.index(record.modality))
            self.frames.append(frames(record))
            self.characters.append(characters(record))
            self.num_captions.append(len(record.captions or ()))
            self.shapes.setdefault(shape(record), number - 1)
        if not len(self):
            raise BTCChatError(f"{self.path} has no records")

    def __len__(self) -> int:
        return len(self.modality_codes)

    def __getitem__(self, index: int) -> Record:
        return parse(self.rows[index], self._where(index + 1), self.image_root)

    def check_files(self, wanted: np.ndarray) -> None:
        """Raise BTCChatError naming the first of the ``wanted`` rows (a mask) with a missing file."""
        for number, row in enumerate(islice(self.rows.scan(), len(self)), start=1):
            if not wanted[number - 1]:
                continue
            sources = _sources(row, self._where(number), self.image_root)
            for source in sources if isinstance(sources, list) else [sources]:
                if isinstance(source, str) and not os.path.exists(source):
                    try:
                        existing_file(source, "video" if row["modality"] == "video" else "image")
                    except BTCChatError as error:
                        raise BTCChatError(f"{self._where(number)}: {error}") from error

    def _where(self, number: int) -> str:
        return f"{self.rows.name} row {number}"


def parse(row: object, where: str, image_root: str) -> Record:
    """Check a row against the schema and join its paths to ``image_root``. Raises BTCChatError that names ``where``."""
    if isinstance(row, BTCChatError):
        raise BTCChatError(f"{where}: {row}") from row
    if not isinstance(row, dict):
        raise BTCChatError(f"{where}: this is {json_kind(row)}, but a record must be a JSON object")
    if "modality" not in row:
        raise BTCChatError(f"{where}: no 'modality'; give one of {', '.join(MODALITIES)}")
    try:
        choose("modality", str(row["modality"]), MODALITIES)
        modality, sources = row["modality"], _sources(row, where, image_root)
        if isinstance(sources, list):
            check_count(modality, len(sources))
        elif modality != "video":
            raise BTCChatError(f"it has a 'video' path, but modality '{modality}' needs {NEEDS[modality]}")
    except BTCChatError as error:
        hint = "".join(f"; {hint}" for hint in misspelt(row))
        raise BTCChatError(f"{where}: {str(error).removeprefix(f'{where}: ')}{hint}") from None
    for key, kind in (("dates", list), ("task", str), ("clue", str), ("captions", list), ("independent", bool)):
        if row.get(key) is not None and not isinstance(row[key], kind):
            raise BTCChatError(f"{where}: '{key}' is {json_kind(row[key])}, expected {KINDS[kind]}")
    flag = row.get("change_flag")
    if flag not in (None, 0, 1, -1):  # CCExpert writes -1 where it is not known
        raise BTCChatError(f"{where}: 'change_flag' is {repr(flag)[:20]}; expected 1 (changed) or 0 (unchanged)")
    dates = row.get("dates")
    if dates is not None and (not isinstance(sources, list) or len(dates) != len(sources)):
        raise BTCChatError(f"{where}: {len(dates)} dates, expected one for each image")
    captions = row.get("captions") or None
    if captions and not all(isinstance(caption, str) and caption.strip() for caption in captions):
        raise BTCChatError(f"{where}: one of the 'captions' has no text")
    conversations = _conversations(row, where)
    for text in (*(turn["value"] for turn in conversations), *(captions or ()), row.get("task"), row.get("clue")):
        check_encodable(text or "", f"{where}: a text")
    for date in dates or ():
        check_encodable(str(date), f"{where}: a date")
    return Record(
        where,
        modality,
        sources,
        conversations,
        dates,
        row.get("task"),
        row.get("clue"),
        captions,
        bool(row.get("independent")),
        row,
        image_root=image_root,
    )


def misspelt(row: Mapping[str, Any]) -> list[str]:
    """A hint for each key of a row that is not read, but resembles one that is and that the row lacks."""
    pairs = ((key, _nearest(key)) for key in row)
    return [f"the key '{key}' is not read (did you mean '{near}'?)" for key, near in pairs if near and near not in row]


@lru_cache(maxsize=1024)  # rows have the same keys
def _nearest(key: str) -> str | None:
    known = (*READ, *READ_ELSEWHERE)
    near = [] if key in known else difflib.get_close_matches(key, known, n=1, cutoff=0.85)
    return near[0] if near else None


def check_encodable(text: str, name: str) -> None:
    """Raise BTCChatError if a text cannot be encoded: half a surrogate pair, or bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        got = text[error.start].encode("ascii", "backslashreplace").decode()
        raise BTCChatError(
            f"{name} has {got} at position {error.start + 1}, which is not a character; use UTF-8"
        ) from None


def shape(record: Record) -> Shape:
    """(modality, frames or -1, number of <image>, turns, an answer is a caption, a placeholder is read as text)."""
    count = len(record.sources) if isinstance(record.sources, list) else -1
    placed = record.captions is None or _captioned_turn(record) is not None
    turns = record.conversations
    stray = any(stray_placeholder(turn["value"], is_answer=turn["from"] == "gpt") for turn in turns)
    return record.modality, count, written(record), len(turns), placed, stray


def written(record: Record) -> int:
    """The number of ``<image>`` in its questions."""
    if record.literal:
        return 0
    return sum(turn["value"].count(PLACEHOLDER) for turn in record.conversations if turn["from"] == "human")


def frames(record: Record) -> int:
    """The number of frames, at most 127; -1 for a video."""
    return min(len(record.sources), 127) if isinstance(record.sources, list) else -1


def characters(record: Record) -> int:
    """The characters of the conversation; with captions, of its longest form."""
    total = sum(len(turn["value"]) for turn in record.conversations)
    if record.captions and (place := _captioned_turn(record)) is not None:
        total += max(map(len, record.captions)) - len(record.conversations[place]["value"])
    return total


def _captioned_turn(record: Record) -> int | None:
    """The first answer that is one of the captions."""
    captions = record.captions or ()
    for place, turn in enumerate(record.conversations):
        if turn["from"] == "gpt" and turn["value"] in captions:
            return place
    return None


def _sources(row: dict[str, Any], where: str, image_root: str) -> list[str | Embedded] | str | Embedded:
    keys = [key for key in MEDIA_KEYS if row.get(key) is not None]
    if len(keys) > 1:
        raise BTCChatError(
            f"{where}: both '{keys[0]}' and '{keys[1]}'; a record has only one of {', '.join(MEDIA_KEYS)}"
        )
    if not keys:
        return []
    key = keys[0]
    value = row[key]
    several = isinstance(value, list)
    items = enumerate(value if several else [value], 1)
    sources = [media_source(item, key, number, where, image_root) for number, item in items]
    return sources[0] if key == "video" and not several else sources


def media_source(item: object, key: str, number: int, where: str, image_root: str) -> str | Embedded:
    """A path joined to the image root, or the embedded file: bytes, or ``{"bytes", "path"}`` as in ``datasets``."""
    if isinstance(item, dict) and item.keys() <= {"bytes", "path"}:
        data, path = item.get("bytes"), item.get("path")
        name = path if isinstance(path, str) and path else f"{key} {number}"
        item = Embedded(name, data) if isinstance(data, bytes) else path
    elif isinstance(item, bytes):
        item = Embedded(f"{key} {number}", item)
    if isinstance(item, Embedded):
        return item
    if not isinstance(item, str) or not item:
        got = f"an object with {', '.join(sorted(map(str, item)))}" if isinstance(item, dict) else repr(item)[:80]
        raise BTCChatError(f"{where}: {got} in '{key}', expected a path, or an object with bytes and path")
    return os.path.join(image_root, item)  # five times as fast as pathlib; called for every row


def _conversations(row: dict[str, Any], where: str) -> list[dict[str, str]]:
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise BTCChatError(f"{where}: no 'conversations'; give a list of {{'from': 'human' | 'gpt', 'value': text}}")
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict) or turn.get("from") not in SPEAKERS or not isinstance(turn.get("value"), str):
            raise BTCChatError(f"{where}: turn {number} is not {{'from': 'human' | 'gpt', 'value': text}}")
    answers = [turn["value"].strip() for turn in turns if turn["from"] == "gpt"]
    if not any(answers):
        raise BTCChatError(f"{where}: no answer; at least one turn 'from': 'gpt' must have text")
    if not all(answers):
        raise BTCChatError(f"{where}: answer {answers.index('') + 1} has no text; add it, or leave out its question")
    greeting = turns[0]["from"] == "gpt"  # a greeting before the first question is not learned
    for number, turn in enumerate(turns[greeting:]):
        if turn["from"] != SPEAKERS[number % 2]:
            speaker = f"turn {number + greeting + 1} is from '{turn['from']}'"
            raise BTCChatError(f"{where}: {speaker}, expected '{SPEAKERS[number % 2]}': roles must alternate")
    if len(turns) == greeting:
        raise BTCChatError(f"{where}: no question; an answer must follow a turn with 'from': 'human'")
    if turns[-1]["from"] == "human":
        raise BTCChatError(f"{where}: the conversation ends with a question; add its answer or remove the question")
    return turns
