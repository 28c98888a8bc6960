"""Faults of a data set by kind: the first of each kind are kept for printing, and the rest are counted."""

from collections import Counter
from collections.abc import Mapping

from btcchat.errors import printable

FILE_FAULTS = {  # kind -> description; used by every check that opens files
    "missing": "a file that does not exist",
    "unreadable": "a file that cannot be decoded",
}
DISAGREE = {"disagreement": "a pair whose change_flag, captions and mask contradict each other"}


class FaultList:
    """kinds: name -> description, in the order of printing. shown: faults kept of each kind."""

    def __init__(self, kinds: Mapping[str, str], shown: int):
        self.kinds, self.shown = kinds, shown
        self.counts: Counter[str] = Counter()
        self._first: dict[str, list[str]] = {}

    def add(self, kind: str, text: str) -> None:
        self.counts[kind] += 1
        first = self._first.setdefault(kind, [])
        if len(first) < self.shown:
            first.append(f"  {printable(text)}")

    def lines(self, rest: str) -> list[str]:
        """The lines to print. rest: where to find the faults that are only counted."""
        lines = []
        for kind in (kind for kind in self.kinds if self.counts[kind]):
            count, first = self.counts[kind], self._first[kind]
            lines += [f"{kind}: {self.kinds[kind]} ({count:,})", *first]
            if count > len(first):
                lines.append(f"  and {count - len(first):,} more ({rest})")
        return lines
