"""Summarise a scene in words: count what the captions of its tiles claim, and say where."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from btcchat.data.changed import says_no_change
from btcchat.eval.captions.factuality import facts
from btcchat.eval.captions.lexicon import APPEARS
from btcchat.geo.rows import DONE, FAILED, SKIPPED
from btcchat.geo.tiles import Tiles

PLURALS = {
    "building": "buildings",
    "road": "roads",
    "parking lot": "parking lots",
    "pool": "pools",
    "sports field": "sports fields",
    "square": "squares",
    "vehicle": "vehicles",
    "bridge": "bridges",
    "tank": "tanks",
}  # the other nouns of the lexicon are the same in the plural
MOST = 0.6  # share of the tiles with a claim that "mostly" requires
FEW = 3  # with at most this many tiles, a place is named only if all are there


def summarize(tiles: Tiles, features: Iterable[dict[str, Any]]) -> list[str]:
    """Lines such as "12 tiles with new buildings, mostly in the north-east", the most frequent first."""
    claims: dict[tuple[str, str], list[int]] = defaultdict(list)
    statuses: dict[str, int] = defaultdict(int)
    unchanged = uncaptioned = 0
    for feature in features:
        statuses[feature["status"]] += 1
        caption = feature.get("caption")
        if feature["status"] != DONE:
            continue
        if caption is None:
            uncaptioned += 1
        elif says_no_change(caption):
            unchanged += 1
        else:
            for claim in facts(caption)["direction"]:
                claims[claim].append(feature["tile"])
    lines = [_claim(claim, numbers, tiles) for claim, numbers in sorted(claims.items(), key=_most_first)]
    if unchanged:
        lines.append(f"{_tiles(unchanged)} without a change")
    if uncaptioned:
        lines.append(f"{_tiles(uncaptioned)} below --min-change, not captioned")
    if statuses[SKIPPED]:
        lines.append(f"{_tiles(statuses[SKIPPED])} skipped: too few valid pixels")
    if statuses[FAILED]:
        lines.append(f"{_tiles(statuses[FAILED])} could not be read")
    return lines


def _most_first(item: tuple[tuple[str, str], list[int]]) -> tuple[int, tuple[str, str]]:
    return -len(item[1]), item[0]


def _claim(claim: tuple[str, str], numbers: Sequence[int], tiles: Tiles) -> str:
    thing, direction = claim
    name = PLURALS.get(thing, thing)
    what = f"new {name}" if direction == APPEARS else f"{name} removed"
    place = region(numbers, tiles)
    return f"{_tiles(len(numbers))} with {what}{f', {place}' if place else ''}"


def region(numbers: Sequence[int], tiles: Tiles) -> str | None:
    """Where most of the tiles are: "mostly in the north-east", "in the south"; None if they are everywhere.

    Also None for a grid whose top is not its north, as in a polar CRS.
    """
    rows, columns = len(tiles.tops), len(tiles.lefts)
    if max(rows, columns) < 2 or not tiles.grid.up_is_north:
        return None
    vertical = _part([tiles.place(number)[0] for number in numbers], rows, "north", "south")
    horizontal = _part([tiles.place(number)[1] for number in numbers], columns, "west", "east")
    parts = [part for part in (vertical, horizontal) if part]
    if not parts:
        return None
    name = "-".join(direction for direction, _ in parts)
    whole = all(share == 1 for _, share in parts)
    if len(numbers) <= FEW and not whole:
        return None
    return f"{'' if whole else 'mostly '}in the {name}"


def _part(places: Sequence[int], count: int, low: str, high: str) -> tuple[str, float] | None:
    """The half in which most places are, and their share."""
    if count < 2:
        return None
    middle = (count - 1) / 2
    shares = (sum(place < middle for place in places), low), (sum(place > middle for place in places), high)
    most, name = max(shares)
    return (name, most / len(places)) if most / len(places) >= MOST else None


def _tiles(count: int) -> str:
    return f"{count:,} tile{'s' * (count != 1)}"
