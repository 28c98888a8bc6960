"""The tiles of a run as features: what tiles.geojson, tiles.gpkg and the report say of each."""

from collections.abc import Iterator, Sequence
from typing import Any

from btcchat.geo.job import Pair, date_pairs
from btcchat.geo.log import TileLog
from btcchat.geo.outputs.vectors import Table, column_types
from btcchat.geo.projection import area, centre
from btcchat.geo.rows import TileRow
from btcchat.geo.tiles import Tiles


def tile_features(
    tiles: Tiles, log: TileLog, numbers: Sequence[int], *, dates: int, questions: int, about: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The properties of each tile. about: what all have in common, such as the dates and the model."""
    for number in numbers:
        yield properties(tiles, log.row(number), dates, questions) | about


def properties(tiles: Tiles, row: TileRow, dates: int, questions: int) -> dict[str, Any]:
    """caption, change: from the first to the last date. caption_1_2, change_1_2: of a series' first two dates."""
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
    """Of the names of a pair's columns and files: none for first to last, else the dates' numbers from 1."""
    return "" if index == 0 else f"_{pair[0] + 1}_{pair[1] + 1}"


def tile_table(tiles: Tiles, features: Sequence[dict[str, Any]]) -> Table:
    table = Table("tiles", tiles.grid.crs, column_types(features))
    for feature in features:
        table.add(tiles.polygon(feature["tile"]), feature)
    return table
