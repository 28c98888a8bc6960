"""One change of a site, as data, and the order and the inverse of changes."""

from typing import TypedDict

from btcchat.synthetic.scene import KINDS, PLACES

INVERSE = {"built": "removed", "removed": "built"}


class Change(TypedDict):
    """What was built or removed, where and when."""

    kind: str  # one of KINDS
    action: str  # "built" | "removed"
    count: int  # houses; 1 for every other kind
    place: str  # one of PLACES
    step: int  # k: between the dates k and k + 1, from 0
    partial: bool  # a parking lot that was extended or reduced


def inverted(change: Change) -> Change:
    """The same change with the dates exchanged."""
    return {**change, "action": INVERSE[change["action"]]}


def reading_order(changes: list[Change]) -> list[Change]:
    return sorted(changes, key=lambda c: (PLACES.index(c["place"]), KINDS.index(c["kind"])))
