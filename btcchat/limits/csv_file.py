"""CSV and TSV with a limit on the size of a cell: after an unclosed quote, the rest of a file would be one cell."""

import csv
from collections.abc import Iterator
from pathlib import Path

from btcchat.errors import BTCChatError, not_utf8
from btcchat.limits.regular import regular

MOST_CHARACTERS = 2**20  # per cell
EXCEL = {f"sep={separator}" for separator in ",;"} | {"sep=\t"}


def csv_rows(path: str | Path, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (number, cells) of each row. The first has number 1, as in a spreadsheet; the separator is , ; or a tab.

    A line sep=; before them, by which Excel knows the separator, is not a row.

    name: of the file, for errors. Raises OSError, and BTCChatError if the file is not CSV in UTF-8.
    """
    number = 0
    try:
        with regular(path).open(encoding="utf-8-sig", newline="") as file:  # -sig: Excel's byte order mark
            head = file.readline(MOST_CHARACTERS)
            if head.strip("\r\n ") not in EXCEL:
                file.seek(0)
            csv.field_size_limit(MOST_CHARACTERS)  # for the whole process: Python has no limit per file
            rows = csv.reader(file, delimiter=max(",;\t", key=head.count), strict=True)
            for number, cells in enumerate(rows, start=1):
                yield number, cells
    except UnicodeDecodeError as error:
        raise not_utf8(name, error, "CSV in UTF-8") from error
    except csv.Error as error:
        reason = str(error)
        if "field larger" in reason:
            reason = f"a cell has more than {MOST_CHARACTERS:,} characters; shorten it, or close its quote"
        raise BTCChatError(f"{name} row {number + 1}: not CSV ({reason})") from None
