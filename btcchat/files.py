"""Files of JSON lines that are only appended to: a killed run reads what it has written and goes on behind it."""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from btcchat.errors import BTCChatError

log = logging.getLogger(__name__)


def read_rows(path: Path, fault: str) -> Iterator[tuple[int, dict]]:
    """(line number, row) of every whole line; a last one that a kill has cut short is left out.

    Raises BTCChatError, which is path, line number and ``fault``, for a line that is no JSON object.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n") and (line.startswith(b'{"') or line == b"{"):
                return
            try:
                row = json.loads(line)
            except ValueError as error:  # json's and unicode's errors are ValueErrors
                raise BTCChatError(f"{path} line {number} {fault}") from error
            if not isinstance(row, dict):
                raise BTCChatError(f"{path} line {number} {fault}")
            yield number, row


class Appender:
    """Appends rows to a file that ``read_rows`` has read; what is behind its last whole line is dropped."""

    def __init__(self, path: Path):
        self._file = path.open("a", encoding="utf-8")
        with path.open("rb") as file:
            whole = sum(len(line) for line in file if line.endswith(b"\n"))
        if whole < path.stat().st_size:
            log.warning("%s: its last line was cut short by a stop and is dropped", path)
            self._file.truncate(whole)

    def append(self, rows: Iterable[dict]) -> None:
        """Returns when the rows are on the disk."""
        self._file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
