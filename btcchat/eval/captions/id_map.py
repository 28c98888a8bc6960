"""``--ids map.csv``: match the ids of one predictions file with those of another."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TypeAlias

from btcchat.errors import BTCChatError, listed
from btcchat.limits.csv_file import csv_rows

NumberedRow: TypeAlias = tuple[int, str, str]  # row of the CSV, id in A, id in B


class IdMapError(BTCChatError):
    """``faults``: one line for each kind of fault."""

    def __init__(self, faults: Sequence[str]):
        self.faults = faults
        super().__init__("; ".join(faults))


def read_id_map(path: str | Path, first: Collection[str], second: Collection[str]) -> dict[str, str]:
    """Map each id in B to the id in A, from a CSV with two columns: id in A, id in B.

    first, second: the ids of A and of B, each of which must be in exactly one row. If neither id of the first row is
    known, that row is taken as a header. Raises IdMapError.
    """
    rows = _read(path)
    if rows and rows[0][1] not in first and rows[0][2] not in second:
        del rows[0]
    columns = (("A", 1, first), ("B", 2, second))
    unknown, duplicate, missing = [], [], []
    for letter, column, known in columns:
        counts = Counter(str(row[column]) for row in rows)
        unknown += [f"'{row[column]}' of {letter} (row {row[0]})" for row in rows if row[column] not in known]
        duplicate += [f"'{name}' of {letter} ({count} rows)" for name, count in counts.items() if count > 1]
        missing += [f"'{name}' of {letter}" for name in known if name not in counts]
    kinds = (
        (unknown, "in the map but not in the predictions"),
        (duplicate, "in more than one row"),
        (missing, "in the predictions but not in the map"),
    )
    faults = [f"{path}: {listed(names, 'id')} {fault}" for names, fault in kinds if names]
    if faults:
        raise IdMapError(faults)
    return {b: a for _, a, b in rows}


def _read(path: str | Path) -> list[NumberedRow]:
    rows: list[NumberedRow] = []
    try:
        for number, cells in csv_rows(path, f"--ids {path}"):
            if not cells:
                continue
            if len(cells) != 2:
                raise BTCChatError(f"{path} row {number}: {len(cells)} columns, expected 2 (id in A, id in B)")
            rows.append((number, cells[0].strip(), cells[1].strip()))
    except OSError as error:
        raise BTCChatError(f"--ids {path} cannot be read: {error.strerror}") from error
    return rows
