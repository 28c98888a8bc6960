"""Planning a site: what happens to it between its dates, what else stands there, and the truth in numbers."""

from dataclasses import dataclass

import numpy as np

from btcchat.synthetic.palette import draw_palette
from btcchat.synthetic.scene import (
    BORDER,
    KINDS,
    PLACES,
    Site,
    Thing,
    blob,
    footprint,
    place_box,
    place_centre,
    place_of,
    rectangle,
    road_line,
)

EVENT_ODDS = {"house": 0.32, "building": 0.15, "road": 0.14, "trees": 0.15, "pond": 0.11, "parking": 0.13}
STYLES = {  # odds of what stands in a place where nothing happens
    "rural": {"house": 0.22, "building": 0.04, "trees": 0.26, "pond": 0.12, "parking": 0.02, None: 0.34},
    "suburb": {"house": 0.48, "building": 0.10, "trees": 0.12, "pond": 0.06, "parking": 0.08, None: 0.16},
    "industry": {"house": 0.10, "building": 0.30, "trees": 0.12, "pond": 0.06, "parking": 0.20, None: 0.22},
    "woods": {"house": 0.12, "building": 0.05, "trees": 0.66, "pond": 0.06, "parking": 0.03, None: 0.08},
}
MOST_HOUSES = 6  # of a whole scene, so that counting stays a matter of looking
MOST_BUILT = 4  # of one group of houses


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


def draw_events(rng, number: int, steps: list[int]) -> list[Event]:
    """Draw ``number`` events of different kinds at the given steps. Now and then trees make way for
    what is built in the same place, or the other way round."""
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


def build_site(rng, dates: int, events: list[Event], *, heldout: bool) -> tuple[Site, list[dict], np.ndarray]:
    """Lay out a site on which ``events`` happen. Returns the site, its changes
    ``{"kind", "action", "count", "place", "step", "partial"}`` in reading order of their places, and
    the mask of all that changed, bool (256, 256)."""
    for _ in range(40):
        built = _try_site(rng, dates, events, heldout)
        if built is not None:
            return built
    raise RuntimeError(f"no room for {events} after 40 layouts")


def _try_site(rng, dates, events, heldout):
    background = "grass" if rng.random() < 0.66 else "soil"
    palette = draw_palette(rng, heldout=heldout, background=background)
    site = Site(dates, background, palette, angle=float(rng.uniform(-0.22, 0.22)))
    always = (True,) * dates
    style = str(rng.choice(list(STYLES), p=[0.28, 0.34, 0.18, 0.2]))
    places = list(rng.permutation(9))
    fixed = [event.place for event in events if event.place is not None]
    for place in rng.choice(
        [1, 3, 4, 4, 5, 7, 0, 2, 6, 8],
        rng.choice([0, 1, 2], p=[0.7, 0.3, 0] if style == "woods" else [0.3, 0.5, 0.2]),
        replace=False,
    ):
        _add_road(site, rng, int(place), always)

    changes, mask = [], np.zeros((256, 256), bool)
    for event in sorted(events, key=lambda e: ("road", "building", "parking", "trees", "pond", "house").index(e.kind)):
        choice = [event.place] if event.place is not None else [int(p) for p in places if p not in fixed]
        for place in choice:
            changed = _add_group(site, rng, event.kind, place, event.present(dates), event.count, event=True)
            if not changed:
                continue
            own = footprint(changed)
            if event.kind == "road":
                own &= ~footprint([t for t in site.things if t.kind == "road" and t not in changed])
            if place_of(own)[0] != place or place_of(own)[1] < BORDER:
                return None
            fixed.append(place)
            mask |= own
            changes.append(
                {
                    "kind": event.kind,
                    "action": "built" if event.built else "removed",
                    "count": event.count,
                    "place": PLACES[place],
                    "step": event.step,
                    "partial": changed[0].partial,
                }
            )
            break
        else:
            return None
    _fill(site, rng, style, [p for p in range(9) if p not in fixed], always)
    _scatter_bushes(site, rng)
    changes.sort(key=lambda change: (change["step"], PLACES.index(change["place"]), KINDS.index(change["kind"])))
    return site, changes, mask


def _fill(site: Site, rng, style: str, places: list[int], always) -> None:
    """Put things that never change into the places left, in an order of their own."""
    kinds, weights = list(STYLES[style]), list(STYLES[style].values())
    most = int(rng.integers(1, MOST_HOUSES + 1))
    for place in map(int, rng.permutation(places)):
        kind = kinds[rng.choice(len(kinds), p=weights)]
        houses = max(sum(t.kind == "house" for t in site.at(date)) for date in range(site.dates))
        count = min(int(rng.integers(1, MOST_BUILT + 1)), most - houses) if kind == "house" else 1
        if kind == "trees" and style == "woods" and _add_forest(site, rng, place, always):
            continue
        if kind is not None and count > 0:
            _add_group(site, rng, kind, place, always, count)


def _add_forest(site: Site, rng, place: int, always) -> bool:
    """Cover a whole place with trees, where nothing stands in it."""
    t = np.linspace(0, 2 * np.pi, 29)[:-1]
    reach = (np.abs(np.cos(t)) ** 5 + np.abs(np.sin(t)) ** 5) ** -0.2 * 46 * rng.uniform(0.93, 1.04, 28)
    outline = np.stack([np.cos(t), np.sin(t)], 1) * reach[:, None] + place_centre(place)
    forest = Thing("trees", place, outline, always, rng.random(8))
    others = [thing for thing in site.things if thing.kind != "trees"]
    if (footprint([forest], 64) & footprint(others, 64, 4)).any():
        return False
    site.add(forest, margin=0)
    return True


def _scatter_bushes(site: Site, rng) -> None:
    """Single small trees on ground that is free at every date; they never change and are never counted."""
    free = np.argwhere(~site.taken.any(0))
    number = min(int(rng.integers(0, 16)), len(free))
    spots = free[rng.integers(len(free), size=number)] if number else free[:0]
    xy = spots[:, ::-1] * 4 + rng.uniform(0, 4, (number, 2))
    site.bushes = np.concatenate([xy, rng.uniform(2.0, 3.6, (number, 1))], 1)


def _add_group(site: Site, rng, kind: str, place: int, present, count: int, event: bool = False) -> list[Thing]:
    """Add ``count`` things of a kind at ``place``; returns those that are the change, [] where there is no room."""
    if kind == "road":
        return _add_road(site, rng, place, present)
    if kind == "house":
        return _add_houses(site, rng, place, present, count, event)
    box, centre = place_box(place), place_centre(place)
    if kind == "parking":
        return _add_parking(site, rng, place, present, event)
    low, high = {"building": (46, 68), "pond": (38, 66), "trees": (48, 76)}[kind]
    if kind == "trees" and not event:
        low = 60
    width, height = rng.uniform(low, high, 2)
    for shrink in (1.0, 0.8):
        w, h = max(low, width * shrink), max(low, height * shrink)
        spot = site.free_spot(rng, box, w + 6, h + 6, present, near=centre)
        if spot is not None:
            break
    else:
        return []
    if kind == "building":
        w, h = w - abs(site.angle) * 30, h - abs(site.angle) * 30
        outline = rectangle(spot, w, h, site.angle)
        if rng.random() < 0.3:  # an L shape: one corner is cut out
            (a, b, c, d), u = outline, rng.uniform(0.35, 0.5, 2)
            ab, ad = (b - a) * u[0], (d - a) * u[1]
            outline = np.stack([a + ab, b, c, d, a + ad, a + ab + ad])
    else:
        outline = blob(rng, spot, w, h)
    thing = Thing(kind, place, outline, present, rng.random(8))
    site.add(thing)
    return [thing]


def _add_road(site: Site, rng, place: int, present) -> list[Thing]:
    thing = Thing("road", place, road_line(rng, place), present, rng.random(8), width=float(rng.uniform(9, 14)))
    ground = footprint([thing], 64, 5)
    if (ground & site.taken.any(0)).sum() > 0.2 * ground.sum():  # crossing is fine, running into each other is not
        return []
    site.add(thing, margin=3.0)
    return [thing]


def _add_houses(site: Site, rng, place: int, present, count: int, event: bool) -> list[Thing]:
    always = (True,) * site.dates
    neighbours = int(rng.integers(1, 3)) if event and count < MOST_BUILT and rng.random() < 0.4 else 0
    if event:
        elsewhere = max(sum(t.kind == "house" for t in site.at(date)) for date in range(site.dates))
        neighbours = min(neighbours, MOST_HOUSES - count - elsewhere)
    x0, y0, x1, y1 = place_box(place)
    near = place_centre(place) + rng.uniform(-8, 8, 2)
    big = 1.0 if count + neighbours <= 3 else 0.9
    added = []
    for index in range(count + neighbours):
        width, height = rng.uniform(24, 30) * big, rng.uniform(19, 24) * big
        angle = site.angle + rng.uniform(-0.06, 0.06) + (np.pi / 2 if rng.random() < 0.3 else 0)
        c, s = abs(np.cos(angle)), abs(np.sin(angle))
        dates = present if index < count else always
        spot = site.free_spot(
            rng, (x0, y0, x1, y1), width * c + height * s + 5, width * s + height * c + 5, dates, near
        )
        if spot is None:
            if index < count:
                added_ids = {id(thing) for thing in added}
                site.things = [thing for thing in site.things if id(thing) not in added_ids]
                return []
            break
        added.append(Thing("house", place, rectangle(spot, width, height, angle), dates, rng.random(8)))
        site.add(added[-1], margin=4.5)
    return added[:count]


def _add_parking(site: Site, rng, place: int, present, event: bool) -> list[Thing]:
    long, short = rng.uniform(56, 74), rng.uniform(36, 46)
    turned = bool(rng.random() < 0.5)
    extension = event and rng.random() < 0.4
    dates = (True,) * site.dates if extension else present  # a part of an extended lot is always there
    size = (short, long) if turned else (long, short)
    spot = site.free_spot(rng, place_box(place), size[0] + 6, size[1] + 6, dates, near=place_centre(place))
    if spot is None:
        return []
    angle = site.angle * 0.4 + (np.pi / 2 if turned else 0)
    style = rng.random(8)
    if not extension:
        site.add(thing := Thing("parking", place, rectangle(spot, long, short, angle), present, style))
        return [thing]
    share = rng.uniform(0.44, 0.54)  # the part that is there at every date
    axis = np.array([np.cos(angle), np.sin(angle)]) * (1 if rng.random() < 0.5 else -1)
    old = rectangle(spot - axis * long * (1 - share) / 2, long * share, short, angle)
    new = rectangle(spot + axis * long * share / 2, long * (1 - share), short, angle)
    site.add(Thing("parking", place, old, (True,) * site.dates, style))
    site.add(part := Thing("parking", place, new, present, style, partial=True))
    return [part]
