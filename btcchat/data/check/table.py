"""The output of `btcchat data check`: a table with one row per set, and the faults by kind."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from btcchat.data.fault_list import DISAGREE, FILE_FAULTS, FaultList
from btcchat.errors import BTCChatError
from btcchat.files import atomic_write, json_line
from btcchat.media.frames import MODALITIES
from btcchat.outputs.ours import check_replaceable, has_rows_of

Size: TypeAlias = tuple[int, int]  # width, height
Fault: TypeAlias = tuple[str, str]  # kind, one of KINDS, and reason
FIELDS = ("set", "where", "kind", "fault")  # keys of a line in the --out file
KINDS = {
    "row": "a row that does not follow the schema",
    "keys": "a key that is not read, but resembles one that is",
    **FILE_FAULTS,
    "sizes": "dates of different size",
    **DISAGREE,
    "placeholders": "a conversation whose <image> do not match its images, or another project's placeholder",
    "answer": "an answer without text",
    "clue": "images without a clue, or that changed after it was written",
    "length": "longer than the model reads; text would be truncated",
}


@dataclass
class Checked:
    """One checked row.

    samples: how often training sees it in an epoch. files: (path, size). tokens: of its longest form, including image
    tokens.
    """

    where: str
    samples: int = 0
    modality: str | None = None
    files: list[tuple[str, Size]] = field(default_factory=list)
    tokens: int | None = None
    faults: list[Fault] = field(default_factory=list)


class Summary:
    """A set's row of the table."""

    def __init__(self, name: str):
        self.name, self.records, self.samples = name, 0, 0
        self.modalities: Counter[str] = Counter()
        self.sizes: Counter[Size] = Counter()
        self.faults: Counter[str] = Counter()  # by kind
        self.tokens = [0, 0, 0, 0]  # records, sum, least, most
        self._files: set[int] = set()

    def add(self, row: Checked) -> None:
        self.records += 1
        self.samples += row.samples
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

    @classmethod
    def total(cls, summaries: Sequence["Summary"]) -> "Summary":
        """All sets together; an image shared by several sets counts once."""
        total = cls("total")
        for one in summaries:
            total.records += one.records
            total.samples += one.samples
            total.modalities += one.modalities
            total.sizes += one.sizes
            total.faults += one.faults
            total._files |= one._files
        counted = [one.tokens for one in summaries if one.tokens[0]]
        if counted:
            counts, sums, least, most = zip(*counted, strict=True)
            total.tokens = [sum(counts), sum(sums), min(least), max(most)]
        return total


class Faults:
    """All faults, by kind. The first ``shown`` of each kind are kept for printing; all of them are written to ``out``.

    The file is written under a temporary name, and renamed when the check is complete.
    """

    def __init__(self, out: str | Path | None, shown: int):
        self.out = Path(out) if out else None
        self._listed = FaultList(KINDS, shown)
        if self.out and (self.out.is_dir() or not self.out.parent.is_dir()):
            raise BTCChatError(f"--out {self.out} cannot be written: give a file in an existing folder")
        if self.out:
            check_replaceable(self.out, "--out", has_rows_of(*FIELDS))

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
            self._listed.add(kind, f"{name}: {row.where}: {reason}")
            if self._file:
                fault = dict(zip(FIELDS, (name, row.where, kind, reason), strict=True))
                self._file.write(json_line(fault))

    @property
    def counts(self) -> Counter[str]:
        """By kind."""
        return self._listed.counts

    def lines(self) -> list[str]:
        """The faults to print, by kind in the order of KINDS."""
        return self._listed.lines(f"all in {self.out}" if self.out else "--out FILE has all")


def table(summaries: list[Summary]) -> str:
    """One row per set: records, samples per epoch, modalities, images and their sizes, token lengths, faults by kind.

    With several sets, a last row has the total.
    """
    if len(summaries) > 1:
        summaries = [*summaries, Summary.total(summaries)]
    modalities = [m for m in MODALITIES if any(summary.modalities[m] for summary in summaries)]
    kinds = [kind for kind in KINDS if any(summary.faults[kind] for summary in summaries)]
    rows: list[tuple[str, ...]] = [
        ("set", "records", "per epoch", *modalities, "images", "sizes", "tokens: min", "mean", "max", *kinds)
    ]
    for summary in summaries:
        count, total, least, most = summary.tokens
        tokens = (least, round(total / count), most) if count else ("-",) * 3
        numbers = [summary.records, summary.samples, *(summary.modalities[m] for m in modalities), summary.images]
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
