"""Plan a site: what happens to it between its dates, what else is there, and the truth in numbers."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from btcchat.synthetic.changes import Change
from btcchat.synthetic.palette import draw_palette
from btcchat.synthetic.placing import MOST_BUILT, MOST_HOUSES, add_forest, add_group, add_road, scatter_bushes
from btcchat.synthetic.scene import BORDER, KINDS, PLACES, SIZE, Site, footprint, place_of

EVENT_ODDS = {"house": 0.32, "building": 0.15, "road": 0.14, "trees": 0.15, "pond": 0.11, "parking": 0.13}
EVENT_ORDER = ("road", "building", "parking", "trees", "pond", "house")  # what needs the most room first
STYLES: dict[str, dict[str | None, float]] = {  # odds of what is in a place where nothing happens
    "rural": {"house": 0.22, "building": 0.04, "trees": 0.26, "pond": 0.12, "parking": 0.02, None: 0.34},
    "suburb": {"house": 0.48, "building": 0.10, "trees": 0.12, "pond": 0.06, "parking": 0.08, None: 0.16},
    "industry": {"house": 0.10, "building": 0.30, "trees": 0.12, "pond": 0.06, "parking": 0.20, None: 0.22},
    "woods": {"house": 0.12, "building": 0.05, "trees": 0.66, "pond": 0.06, "parking": 0.03, None: 0.08},
}


@dataclass(frozen=True)
class Event:
    """Something built or removed between the dates ``step`` and ``step + 1`` (from 0)."""

    kind: str
    built: bool
    count: int
    step: int
    place: int | None = None

    def present(self, dates: int) -> tuple[bool, ...]:
        return tuple((date > self.step) == self.built for date in range(dates))


def draw_events(rng: Generator, number: int, steps: list[int]) -> list[Event]:
    """Draw ``number`` events of different kinds at the given steps.

    Now and then trees make way for what is built in the same place, or the other way round.
    """
    kinds = list(rng.choice(KINDS, number, replace=False, p=[EVENT_ODDS[kind] for kind in KINDS]))
    built = [bool(rng.random() < 0.55) for _ in kinds]
    places: list[int | None] = [None] * number
    if number == 2 and rng.random() < 0.18:
        kinds = ["trees", str(rng.choice(["house", "building", "parking"]))]
        built[0] = built[0] and steps[0] == steps[1]  # ground must be cleared before it is built upon
        built[1] = not built[0]
        places = [int(rng.integers(9))] * 2
    counts = [int(rng.integers(1, MOST_BUILT + 1)) if kind == "house" else 1 for kind in kinds]
    return [Event(str(k), b, c, s, p) for k, b, c, s, p in zip(kinds, built, counts, steps, places, strict=True)]


def build_site(
    rng: Generator, dates: int, events: list[Event], *, heldout: bool
) -> tuple[Site, list[Change], np.ndarray]:
    """Lay out a site on which ``events`` happen.

    Returns the site, its changes by step and then in reading order, and the mask of all that changed,
    bool (256, 256).
    """
    for _ in range(40):
        built = _try_site(rng, dates, events, heldout)
        if built is not None:
            return built
    raise RuntimeError(f"no room for {events} after 40 layouts")


def _try_site(
    rng: Generator, dates: int, events: list[Event], heldout: bool
) -> tuple[Site, list[Change], np.ndarray] | None:
    """One layout, or None if an event does not fit into it."""
    background = "grass" if rng.random() < 0.66 else "soil"
    palette = draw_palette(rng, heldout=heldout, background=background)
    site = Site(dates, background, palette, angle=float(rng.uniform(-0.22, 0.22)))
    style = str(rng.choice(list(STYLES), p=[0.28, 0.34, 0.18, 0.2]))
    places = [int(place) for place in rng.permutation(9)]
    number = rng.choice([0, 1, 2], p=[0.7, 0.3, 0] if style == "woods" else [0.3, 0.5, 0.2])
    for place in rng.choice([1, 3, 4, 4, 5, 7, 0, 2, 6, 8], number, replace=False):
        add_road(site, rng, int(place), site.always)

    changes: list[Change] = []
    mask = np.zeros((SIZE, SIZE), bool)
    fixed = [event.place for event in events if event.place is not None]
    for event in sorted(events, key=lambda event: EVENT_ORDER.index(event.kind)):
        choice = [event.place] if event.place is not None else [place for place in places if place not in fixed]
        added = _add_event(site, rng, event, choice)
        if added is None:
            return None
        place, partial, own = added
        fixed.append(place)
        mask |= own
        changes.append(
            {
                "kind": event.kind,
                "action": "built" if event.built else "removed",
                "count": event.count,
                "place": PLACES[place],
                "step": event.step,
                "partial": partial,
            }
        )
    _fill(site, rng, style, [place for place in range(9) if place not in fixed])
    scatter_bushes(site, rng)
    changes.sort(key=lambda change: (change["step"], PLACES.index(change["place"]), KINDS.index(change["kind"])))
    return site, changes, mask


def _add_event(site: Site, rng: Generator, event: Event, places: list[int]) -> tuple[int, bool, np.ndarray] | None:
    """Add what an event builds or removes to the first place with room: the place, whether it is a part, its mask.

    None if no place has room, or if the centroid of what changed is not clearly inside the place.
    """
    for place in places:
        changed = add_group(site, rng, event.kind, place, event.present(site.dates), event.count, event=True)
        if not changed:
            continue
        mask = footprint(changed)
        if event.kind == "road":  # a crossing road hides its part of this one
            mask &= ~footprint([thing for thing in site.things if thing.kind == "road" and thing not in changed])
        found, distance = place_of(mask)
        if found != place or distance < BORDER:
            return None
        return place, changed[0].partial, mask
    return None


def _fill(site: Site, rng: Generator, style: str, places: list[int]) -> None:
    """Put things that never change into the places left, in a random order."""
    kinds, weights = list(STYLES[style]), list(STYLES[style].values())
    most = int(rng.integers(1, MOST_HOUSES + 1))
    for place in map(int, rng.permutation(places)):
        kind = kinds[rng.choice(len(kinds), p=weights)]
        count = min(int(rng.integers(1, MOST_BUILT + 1)), most - site.most("house")) if kind == "house" else 1
        if kind == "trees" and style == "woods" and add_forest(site, rng, place):
            continue
        if kind is not None and count > 0:
            add_group(site, rng, kind, place, site.always, count)
