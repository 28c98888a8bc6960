"""The tiles of a run as features: their properties in tiles.geojson, tiles.gpkg and the report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from btcchat.geo.job import Pair, date_pairs
from btcchat.geo.log import TileLog
from btcchat.geo.outputs.vectors import Feature, Table
from btcchat.geo.projection import area, centre
from btcchat.geo.rows import TileRow
from btcchat.geo.tiles import Tiles


@dataclass(frozen=True)
class TileFeatures:
    """The properties of the tiles ``numbers``, read from the log one at a time. Can be iterated over repeatedly.

    about: properties that all tiles share, such as the dates and the model.
    """

    tiles: Tiles
    log: TileLog
    numbers: Sequence[int]
    dates: int
    questions: int
    about: dict[str, str | float | None]

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number in self.numbers:
            yield properties(self.tiles, self.log.row(number), self.dates, self.questions) | self.about

    def table(self) -> Table:
        return Table("tiles", self.tiles.grid.crs, self._columns(), _Shapes(self))

    def _columns(self) -> dict[str, type]:
        ends = [suffix(pair, index) for index, pair in enumerate(date_pairs(self.dates))]
        columns: dict[str, type] = dict.fromkeys(("tile", "row", "column"), int) | dict.fromkeys(
            ("status", "reason"), str
        )
        for end in ends:
            columns |= {f"caption{end}": str, f"change{end}": float}
        columns |= {f"answer_{index + 1}": str for index in range(self.questions)}
        columns |= dict.fromkeys(("valid", "area_m2", "longitude", "latitude"), float)
        return columns | {name: float if name.startswith("shift") else str for name in self.about}


@dataclass(frozen=True)
class _Shapes:
    """The same tiles as pairs of a polygon and its properties."""

    features: TileFeatures

    def __iter__(self) -> Iterator[Feature]:
        for feature in self.features:
            yield self.features.tiles.polygon(feature["tile"]), feature


def properties(tiles: Tiles, row: TileRow, dates: int, questions: int) -> dict[str, Any]:
    """Properties of a tile. caption, change: first to last date. caption_1_2, change_1_2: a series' first two dates."""
    number = row["tile"]
    polygon = tiles.polygon(number)
    lon, lat = centre(polygon, tiles.grid.crs)
    place = tiles.place(number)
    found: dict[str, Any] = {
        "tile": number,
        "row": place[0],
        "column": place[1],
        "status": row["status"],
        "reason": row.get("reason"),
    }
    pairs, answers = row.get("pairs") or [], row.get("answers") or []
    for index, pair in enumerate(date_pairs(dates)):
        end = suffix(pair, index)
        found[f"caption{end}"] = pairs[index]["caption"] if pairs else None
        found[f"change{end}"] = float(pairs[index]["change"]) if pairs else None
    for index in range(questions):
        found[f"answer_{index + 1}"] = answers[index] if index < len(answers) else None
    found |= {"valid": float(row["valid"]), "area_m2": round(area(polygon, tiles.grid.crs), 1)}
    return found | {"longitude": round(lon, 7), "latitude": round(lat, 7)}


def suffix(pair: Pair, index: int) -> str:
    """The suffix of a pair's columns and files: empty for first to last, otherwise the dates' numbers from 1."""
    return "" if index == 0 else f"_{pair[0] + 1}_{pair[1] + 1}"
