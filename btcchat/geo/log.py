"""tiles.jsonl: the rows of a run in the order they finish, with an index of where each is in the file."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

from btcchat.errors import BTCChatError
from btcchat.files import Appender, json_line, parse_json
from btcchat.geo.folder import MAKE_ROOM
from btcchat.geo.rows import TileRow

NAME = "tiles.jsonl"
ANOTHER = "choose another --out"


class TileLog:
    """The rows of a run in the folder ``out``. Only their places in the file and their statuses are kept in memory."""

    def __init__(self, out: Path, settings: str) -> None:
        self.path, self._settings = out / NAME, settings
        self._places: dict[int, int] = {}
        self.statuses: dict[int, str] = {}
        self._end = 0
        self._appender = Appender(self.path, way_out=MAKE_ROOM)
        self._file = self.path.open("rb")
        try:
            for line in self._file:
                self._take(line)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "TileLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._appender.close()
        self._file.close()

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def append(self, rows: Iterable[TileRow]) -> Sequence[TileRow]:
        """Write the rows that are not there yet, and return those once they are on disk."""
        new = [row for row in rows if row["tile"] not in self]
        self._appender.append([dict(row) for row in new])
        for row in new:
            self._place(row, len(json_line(dict(row))))
        return new

    def row(self, number: int) -> TileRow:
        self._file.seek(self._places[number])
        return cast(TileRow, parse_json(self._file.readline()))

    def _take(self, line: bytes) -> None:
        try:
            row = parse_json(line)
            settings = row["settings"]
            self._place(row, len(line))
        except (BTCChatError, KeyError, TypeError, AttributeError) as error:
            raise BTCChatError(f"{self.path} does not hold the tiles of a run of scenes; {ANOTHER}") from error
        if settings != self._settings:
            raise BTCChatError(f"{self.path} has tiles of another model or other settings; {ANOTHER}")

    def _place(self, row: TileRow, length: int) -> None:
        if row["tile"] not in self:
            self._places[row["tile"]], self.statuses[row["tile"]] = self._end, row["status"]
        self._end += length
