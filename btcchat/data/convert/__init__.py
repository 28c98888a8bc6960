"""Published data sets -> our annotation files: one JSONL of records (btcchat.data.records) for each of their splits.

The images stay where they are. A new layout is one `Converter` (base.py) and one row of ``CONVERTERS``.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from btcchat.data.convert.base import Converter, PublishedRow
from btcchat.data.convert.ccexpert import CCExpert
from btcchat.data.convert.check import BadRows, Checks, Fault
from btcchat.data.convert.crsvqa import CRSVQA
from btcchat.data.convert.dubai_cc import DubaiCC
from btcchat.data.convert.era import ERA
from btcchat.data.convert.geochat import GeoChat
from btcchat.data.convert.levir import LevirCC, LevirMCI, WhuCDC
from btcchat.data.convert.rsvqa import CDVQA, RsvqaHR, RsvqaLR
from btcchat.data.convert.second_cc import SecondCC
from btcchat.data.convert.unirs import UniRS
from btcchat.data.convert.write import write_splits
from btcchat.errors import BTCChatError
from btcchat.registry import Registry

__all__ = ["CONVERTERS", "BadRows", "Converter", "PublishedRow", "convert"]

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
    },
)


def convert(
    kind: str,
    src: str | Path,
    out: str | Path,
    *,
    splits: Sequence[str] = (),
    images: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Write ``out``/SPLIT.jsonl for the splits of ``src`` (all, or the given ones); -> records of each.

    images: the folder of the images if not ``src``; the records' paths are relative to it.
    ``progress`` is called with (rows done, rows). Raises BadRows, which lists every bad row (a repeated id, a missing
    file, one that does not decode, a row out of form), and BTCChatError for any other fault; then nothing is written.
    """
    converter = CONVERTERS.find(kind)(src, images)
    counts = Counter(row.split for row in converter.rows())  # a first pass: what there is, before any image is read
    if not counts:
        raise BTCChatError(f"{src} has no rows")
    for split in splits:
        if split not in counts:
            raise BTCChatError(f"no split '{split}' in {src}; it has {', '.join(sorted(counts))}")
    wanted = {split: count for split, count in counts.items() if not splits or split in splits}
    for split in wanted:
        if not re.fullmatch(r"\w[\w .()-]*", split):
            row = next(row for row in converter.rows() if row.split == split)
            raise BTCChatError(f"{row.where}: '{split}' is no name of a split" if split else f"{row.where}: no 'split'")
    checks, done = Checks(converter.root, converter.ids_are_unique), 0
    with write_splits(out, list(wanted)) as write:
        for row in converter.rows():
            if row.split not in wanted:
                continue
            try:
                record = converter.record(row)
            except BTCChatError as error:
                checks.faults.append(Fault("row", row.where, str(error)))
            else:
                checks.check(row, record)
                if not checks.faults:
                    write(row.split, record)
            done += 1
            if progress:
                progress(done, sum(wanted.values()))
        if checks.faults:
            raise BadRows(checks.faults)
    return wanted
