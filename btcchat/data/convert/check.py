"""Check every converted record. All faults are reported, each with its row."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from btcchat.data.changed import disagreement
from btcchat.data.convert.base import PublishedRow
from btcchat.data.fault_list import DISAGREE, FILE_FAULTS, FaultList
from btcchat.data.records import parse
from btcchat.errors import BTCChatError
from btcchat.media import load_frames, load_image
from btcchat.media.reading import DEFAULT, MASK

IMAGES = ("image", "images", "mask", "semantic_maps")  # keys of a record that name image files


KINDS = {
    "row": "a row that cannot be converted",
    "id": "an id that an earlier row already has",
    **FILE_FAULTS,
    **DISAGREE,
}


@dataclass
class Fault:
    kind: str  # one of KINDS
    where: str
    reason: str
    rows: int = 1  # further rows with the same fault: a file is reported once

    def __str__(self) -> str:
        more = self.rows - 1
        return f"{self.where}: {self.reason}" + (f" (and in {more} more row{'s' * (more > 1)})" if more else "")


def by_kind(faults: Iterable[Fault], shown: int) -> FaultList:
    """The faults by kind, with the first ``shown`` of each kept for printing."""
    listed = FaultList(KINDS, shown)
    for fault in faults:
        listed.add(fault.kind, str(fault))
    return listed


class BadRows(BTCChatError):
    """``faults``: one line each. The message has the first of them and their number."""

    def __init__(self, faults: list[Fault]):
        self.faults = [str(fault) for fault in faults]
        self.by_kind = partial(by_kind, faults)
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(f"{faults[0]}{more}; nothing was written")


class Checks:
    """Checks records one by one: the schema, ids that are unique in their split, files that exist and decode.

    Each file is decoded once, even if many rows show it.
    """

    def __init__(self, root: Path, ids_are_unique: bool):
        self.root, self.ids_are_unique = root, ids_are_unique
        self.faults: list[Fault] = []
        self._ids: dict[str, dict[str, int | str]] = {}  # split -> id -> number of its row, or its file
        self._files: dict[str, Fault | None] = {}  # file -> its fault
        self._masks: dict[str, bool] = {}  # file -> whether it has a change

    def check(self, row: PublishedRow[Any], record: dict[str, Any]) -> Fault | None:
        """Add the faults of a record; return any disagreement of flag, captions and mask, which may be kept."""
        try:
            parse(record, row.where, str(self.root))
        except BTCChatError as error:
            self.faults.append(Fault("row", row.where, str(error).removeprefix(f"{row.where}: ")))
            return None
        self._check_id(row, record)
        for key in IMAGES:
            value = [] if record.get(key) is None else record[key]
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, str):
                    self._check_file(row, path, key if key == "mask" else "image")
                else:  # a key of the published row that is not in its layout
                    self.faults.append(Fault("row", row.where, f"'{key}' is {repr(path)[:80]}, expected a path"))
        if isinstance(record.get("video"), str):
            self._check_file(row, record["video"], "video")
        mask = record.get("mask")
        reason = disagreement(record, self._masks.get(mask) if isinstance(mask, str) else None)
        return None if reason is None else Fault("disagreement", row.where, reason)

    def _check_id(self, row: PublishedRow[Any], record: dict[str, Any]) -> None:
        if not self.ids_are_unique:
            return
        ids, place = self._ids.setdefault(row.split, {}), row.number or row.file
        first = ids.setdefault(record["id"], place)
        if first != place:
            whose = f"row {first}" if isinstance(first, int) else first
            self.faults.append(Fault("id", row.where, f"the id '{record['id']}' is already used by {whose}"))

    def _check_file(self, row: PublishedRow[Any], path: str, kind: str) -> None:
        if path in self._files:
            if fault := self._files[path]:
                fault.rows += 1
            return
        self._files[path] = None
        try:
            if kind == "video":
                load_frames("video", str(self.root / path), num_video_frames=1)
            else:
                image = load_image(self.root / path, reading=MASK if kind == "mask" else DEFAULT)
                if kind == "mask":
                    self._masks[path] = image.getbbox() is not None
        except BTCChatError as error:
            fault_kind = "unreadable" if os.path.exists(self.root / path) else "missing"
            self._files[path] = fault = Fault(fault_kind, row.where, str(error))
            self.faults.append(fault)
