"""Mirror or rotate pairs in training: both dates in the same way, with the words for places in the captions.

A word counts as a place in any context: "left" in "no house is left" is swapped too. Pairs are not cropped, since a
caption describes changes anywhere in the pair, and a crop could remove them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL.Image import Transpose

from btcchat.data.records import Record

DRAWN_FOR_VIEWS = 2  # added to the draw, so that the view, the caption and the dropping of a clue are independent
SIDES = {"left": "right", "east": "west"}
HEIGHTS = {"top": "bottom", "upper": "lower", "above": "below", "north": "south"}
SIDES |= {b: a for a, b in SIDES.items()}
HEIGHTS |= {b: a for a, b in HEIGHTS.items()}
# Views that keep horizontal and vertical directions. The other four exchange them.
SWAPS = {
    None: {},
    Transpose.FLIP_LEFT_RIGHT: SIDES,
    Transpose.FLIP_TOP_BOTTOM: HEIGHTS,
    Transpose.ROTATE_180: SIDES | HEIGHTS,
}
_PART = re.compile("|".join(SIDES | HEIGHTS), re.IGNORECASE)
_PLACE = re.compile(rf"\b(?:{_PART.pattern})+(?=(?:ern|most|wards?|hand|side)?\b)", re.IGNORECASE)
_UPRIGHT = re.compile(r"\b(?:horizontal|vertical)", re.IGNORECASE)


@dataclass
class PairViews:
    """Returns a record unchanged, or a pair in one of the eight views of a square (four if its text names places).

    first: applied to a record before, for example to add its clue.
    """

    first: Callable[[Record, tuple[int, ...]], Record] | None = None

    def __call__(self, record: Record, draw: tuple[int, ...]) -> Record:
        """draw: the key that determines the view (seed, epoch, index)."""
        record = record if self.first is None else self.first(record, draw)
        if record.modality != "pair":
            return record
        texts = [turn["value"] for turn in record.conversations] + [record.clue or ""]
        names_places = any(_PLACE.search(text) or _UPRIGHT.search(text) for text in texts)
        views = list(SWAPS) if names_places else [None, *Transpose]
        view = views[np.random.default_rng((*draw, DRAWN_FOR_VIEWS)).integers(len(views))]
        swaps = SWAPS.get(view, {})
        turns = [turn | {"value": swapped(turn["value"], swaps)} for turn in record.conversations]
        return replace(record, conversations=turns, clue=record.clue and swapped(record.clue, swaps), view=view)


def swapped(text: str, swaps: dict[str, str]) -> str:
    """``swapped("the top left", SIDES)`` -> "the top right"; also inside "lower-left", "topleft", "northwestern"."""
    return _PLACE.sub(lambda word: _PART.sub(lambda part: _as(part[0], swaps), word[0]), text)


def _as(word: str, swaps: dict[str, str]) -> str:
    other = swaps.get(word.lower())
    if other is None:
        return word
    return other.capitalize() if word[0].isupper() else other
