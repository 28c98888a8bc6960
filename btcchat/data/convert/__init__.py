"""Convert published data sets to our annotation files: one JSONL of records (btcchat.data.records) for each split.

The images stay where they are. A new layout needs one `Converter` (base.py) and one row in ``CONVERTERS``.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from btcchat.data.changed import DISAGREEMENT
from btcchat.data.convert.base import Converter, PublishedRow
from btcchat.data.convert.ccexpert import CCExpert
from btcchat.data.convert.check import BadRows, Checks, Fault
from btcchat.data.convert.crsvqa import CRSVQA
from btcchat.data.convert.dubai_cc import DubaiCC
from btcchat.data.convert.era import ERA
from btcchat.data.convert.generic import MappedFields
from btcchat.data.convert.geochat import GeoChat
from btcchat.data.convert.levir import LevirCC, LevirMCI, WhuCDC
from btcchat.data.convert.rsvqa import CDVQA, RsvqaHR, RsvqaLR
from btcchat.data.convert.second_cc import SecondCC
from btcchat.data.convert.unirs import UniRS
from btcchat.data.convert.write import write_splits
from btcchat.errors import BTCChatError, choose
from btcchat.registry import Registry

__all__ = ["CONVERTERS", "BadRows", "Converted", "Converter", "PublishedRow", "convert"]

CONVERTERS: Registry[type[Converter[Any]]] = Registry(
    "converter",
    {
        "levir_cc": LevirCC,
        "levir_mci": LevirMCI,
        "dubai_cc": DubaiCC,
        "second_cc": SecondCC,
        "whu_cdc": WhuCDC,
        "geochat_instruct": GeoChat,
        "rsvqa_lr": RsvqaLR,
        "rsvqa_hr": RsvqaHR,
        "crsvqa": CRSVQA,
        "cdvqa": CDVQA,
        "era": ERA,
        "ccexpert": CCExpert,
        "unirs": UniRS,
        "generic": MappedFields,
    },
)


class Converted(dict[str, int]):
    """Number of records written by split. disagreements: pairs whose flag, captions and mask contradict each other."""

    def __init__(self, splits: Iterable[str]):
        super().__init__(dict.fromkeys(splits, 0))
        self.disagreements: list[Fault] = []


def convert(
    kind: str,
    src: str | Path,
    out: str | Path,
    *,
    splits: Sequence[str] = (),
    images: str | Path | None = None,
    disagreement: str = "keep",
    mapping: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Write ``out``/SPLIT.jsonl for the splits of ``src`` (all, or the given ones).

    images: the folder of the images if not ``src``; the paths in records are relative to it. disagreement: what to do
    with a pair whose change_flag, captions and mask contradict each other: keep, drop, or stop (count it as a bad row).
    mapping: for the kind "generic", name -> field, ``{"question": "Q", "answer": "A", "image": "path"}``. ``progress``
    is called with (rows done, rows). Raises BadRows, which lists every bad row (a repeated id, a missing or broken
    file, a malformed row), and BTCChatError for any other fault; in both cases nothing is written.
    """
    choose("treatment of disagreement", disagreement, dict.fromkeys(DISAGREEMENT))
    converter = _converter(kind, src, images, mapping)
    wanted = _wanted_splits(converter, src, splits)
    checks, done = Checks(converter.root, converter.ids_are_unique), 0
    converted = Converted(wanted)
    with write_splits(out, list(wanted)) as write:
        for row in converter.rows():
            if row.split not in wanted:
                continue
            try:
                record = converter.record(row)
            except BTCChatError as error:
                checks.faults.append(Fault("row", row.where, str(error)))
            else:
                fault = checks.check(row, record)
                if fault is not None:
                    (checks.faults if disagreement == "stop" else converted.disagreements).append(fault)
                if not checks.faults and (fault is None or disagreement == "keep"):
                    write(row.split, record)
                    converted[row.split] += 1
            done += 1
            if progress:
                progress(done, sum(wanted.values()))
        if checks.faults:
            raise BadRows(checks.faults)
    return converted


def _converter(
    kind: str, src: str | Path, images: str | Path | None, mapping: Mapping[str, str] | None
) -> Converter[Any]:
    made = CONVERTERS.find(kind)
    if issubclass(made, MappedFields):
        return made(src, images, mapping)
    if mapping:
        raise BTCChatError(f"--map is only for the kind generic, since the fields of {kind} are known; leave it out")
    return made(src, images)


def _wanted_splits(converter: Converter[Any], src: str | Path, splits: Sequence[str]) -> dict[str, int]:
    """Count the rows of the wanted splits, or of all: a first pass, before any image is read."""
    counts = Counter(row.split for row in converter.rows())
    if not counts:
        raise BTCChatError(f"{src} has no rows")
    for split in splits:
        if split not in counts:
            raise BTCChatError(f"no split '{split}' in {src}; choose from {', '.join(sorted(counts))}")
    wanted = {split: count for split, count in counts.items() if not splits or split in splits}
    for split in wanted:
        if not re.fullmatch(r"\w[\w .()-]*", split):
            row = next(row for row in converter.rows() if row.split == split)
            fault = f"'{split}' is not a valid name for a split" if split else "no 'split'"
            raise BTCChatError(f"{row.where}: {fault}")
    return wanted
