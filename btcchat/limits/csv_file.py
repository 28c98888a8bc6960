"""CSV and TSV of bounded cells: where a quote is not closed, the rest of a file would be one cell."""

import csv
from collections.abc import Iterator
from pathlib import Path

from btcchat.errors import BTCChatError
from btcchat.limits.regular import regular

MOST_CHARACTERS = 2**20  # of a cell


def csv_rows(path: str | Path, name: str) -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of each row; the first has number 1, as in a spreadsheet, and decides between , ; and tab.

    name: what an error calls the file. Raises OSError, and BTCChatError for what is not CSV in UTF-8.
    """
    number = 0
    try:
        with regular(path).open(encoding="utf-8-sig", newline="") as file:  # -sig: Excel's byte order mark
            head = file.readline(MOST_CHARACTERS)
            file.seek(0)
            csv.field_size_limit(MOST_CHARACTERS)  # of the whole process, as Python has no other
            rows = csv.reader(file, delimiter=max(",;\t", key=head.count), strict=True)
            for number, cells in enumerate(rows, start=1):
                yield number, cells
    except UnicodeDecodeError as error:
        raise BTCChatError(f"{name}: not UTF-8 ({error.reason} at byte {error.start})") from error
    except csv.Error as error:
        reason = str(error)
        if "field larger" in reason:
            reason = f"a cell has more than {MOST_CHARACTERS:,} characters; shorten it, or close its quote"
        raise BTCChatError(f"{name} row {number + 1}: not CSV ({reason})") from None
