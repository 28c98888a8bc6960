"""The output of `btcchat data check`: a table with a row a set, and the faults by kind."""

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from btcchat.errors import BTCChatError
from btcchat.files import atomic_write, json_line
from btcchat.media.frames import MODALITIES

Size: TypeAlias = tuple[int, int]  # width, height
Fault: TypeAlias = tuple[str, str]  # kind, one of KINDS, and reason
KINDS = {
    "row": "a row that does not follow the schema",
    "missing": "a file that is not there",
    "unreadable": "a file that cannot be decoded",
    "sizes": "dates of different size",
    "placeholders": "a conversation whose <image> do not fit its images",
    "answer": "an answer without text",
    "clue": "images without a clue, or changed since it was written",
    "length": "longer than the model reads; text would be cut",
}


@dataclass
class Checked:
    """One row. ``files``: (path, size); ``tokens``: of its longest form, with its image tokens."""

    where: str
    modality: str | None = None
    files: list[tuple[str, Size]] = field(default_factory=list)
    tokens: int | None = None
    faults: list[Fault] = field(default_factory=list)


class Summary:
    """A set's row of the table."""

    def __init__(self, name: str):
        self.name, self.records = name, 0
        self.modalities: Counter[str] = Counter()
        self.sizes: Counter[Size] = Counter()
        self.faults: Counter[str] = Counter()  # by kind
        self.tokens = [0, 0, 0, 0]  # records, sum, least, most
        self._files: set[int] = set()

    def add(self, row: Checked) -> None:
        self.records += 1
        if row.modality:
            self.modalities[row.modality] += 1
        for path, size in row.files:
            if hash(path) not in self._files:
                self._files.add(hash(path))
                self.sizes[size] += 1
        if row.tokens is not None:
            count, total, least, most = self.tokens
            self.tokens = [count + 1, total + row.tokens, min(least or row.tokens, row.tokens), max(most, row.tokens)]
        self.faults.update(kind for kind, _ in row.faults)

    @property
    def images(self) -> int:
        return len(self._files)


class Faults:
    """All faults, by kind. The first ``shown`` of a kind are kept to be printed; all of them are written to ``out``.

    The file is written under another name, and renamed when all is checked.
    """

    def __init__(self, out: str | Path | None, shown: int):
        self.out, self.shown = Path(out) if out else None, shown
        self.counts: Counter[str] = Counter()
        self._first: dict[str, list[str]] = {}
        if self.out and (self.out.is_dir() or not self.out.parent.is_dir()):
            raise BTCChatError(f"--out {self.out} cannot be written: give a file in a folder that is there")

    def __enter__(self) -> "Faults":
        self._stack = ExitStack()
        self._file: BinaryIO | None = None
        if self.out:
            part = atomic_write(self.out, name=f"--out {self.out}", way_out="give another file")
            self._file = self._stack.enter_context(self._stack.enter_context(part).open("wb"))
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

    def add(self, name: str, row: Checked) -> None:
        for kind, reason in row.faults:
            self.counts[kind] += 1
            first = self._first.setdefault(kind, [])
            if len(first) < self.shown:
                first.append(f"  {name}: {row.where}: {reason}")
            if self._file:
                fault = {"set": name, "where": row.where, "kind": kind, "fault": reason}
                self._file.write(json_line(fault))

    def lines(self) -> list[str]:
        """The faults to print, by kind in the order of KINDS."""
        lines = []
        for kind in (kind for kind in KINDS if self.counts[kind]):
            count, first = self.counts[kind], self._first[kind]
            lines += [f"{kind}: {KINDS[kind]} ({count:,})", *first]
            if count > len(first):
                where = f"all in {self.out}" if self.out else "--out FILE has all"
                lines.append(f"  and {count - len(first):,} more ({where})")
        return lines


def table(summaries: list[Summary]) -> str:
    """One row a set: records, by modality, images and their sizes, token lengths, faults by kind."""
    modalities = [m for m in MODALITIES if any(summary.modalities[m] for summary in summaries)]
    kinds = [kind for kind in KINDS if any(summary.faults[kind] for summary in summaries)]
    rows: list[tuple[str, ...]] = [
        ("set", "records", *modalities, "images", "sizes", "tokens: min", "mean", "max", *kinds)
    ]
    for summary in summaries:
        count, total, least, most = summary.tokens
        tokens = (least, round(total / count), most) if count else ("-",) * 3
        numbers = [summary.records, *(summary.modalities[m] for m in modalities), summary.images]
        faults = [summary.faults[kind] for kind in kinds]
        rows.append((summary.name, *map(_number, numbers), _sizes(summary.sizes), *map(_number, [*tokens, *faults])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for name, *cells in rows:
        padded = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([f"{name:<{widths[0]}}", *padded]))
    return "\n".join(lines)


def _number(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value


def _sizes(sizes: Counter[Size]) -> str:
    """``256x256``, or the smallest and the largest."""
    by_area = sorted(sizes, key=lambda size: size[0] * size[1])
    ends = [f"{width}x{height}" for width, height in dict.fromkeys(by_area[:1] + by_area[-1:])]
    return " to ".join(ends) or "-"
