"""Find room for things on a site: houses, large buildings, roads, trees, ponds, parking lots and bushes."""

import numpy as np
from numpy.random import Generator

from btcchat.synthetic.scene import (
    STEP,
    Present,
    Site,
    Thing,
    blob,
    footprint,
    place_box,
    place_centre,
    rectangle,
    road_line,
)

MOST_HOUSES = 6  # of a whole scene, so that counting stays a matter of looking
MOST_BUILT = 4  # of one group of houses
EXTENTS = {"building": (46, 68), "pond": (38, 66), "trees": (48, 76)}  # shortest and longest side in pixels


def add_group(
    site: Site, rng: Generator, kind: str, place: int, present: Present, count: int, event: bool = False
) -> list[Thing]:
    """Add ``count`` things of a kind at ``place``. Returns those that are the change, [] if there is no room.

    ``event``: they are built or removed. Then houses may get neighbours that stay, and a parking lot may be there at
    all dates except for a part of it.
    """
    if kind == "road":
        return add_road(site, rng, place, present)
    if kind == "house":
        return _add_houses(site, rng, place, present, count, event)
    if kind == "parking":
        return _add_parking(site, rng, place, present, event)
    low, high = EXTENTS[kind]
    if kind == "trees" and not event:
        low = 60
    width, height = rng.uniform(low, high, 2)
    for shrink in (1.0, 0.8):
        w, h = max(low, width * shrink), max(low, height * shrink)
        spot = site.free_spot(rng, place_box(place), w + 6, h + 6, present, near=place_centre(place))
        if spot is not None:
            break
    else:
        return []
    outline = _hall(site, rng, spot, w, h) if kind == "building" else blob(rng, spot, w, h)
    thing = Thing(kind, place, outline, present, rng.random(8))
    site.add(thing)
    return [thing]


def _hall(site: Site, rng: Generator, centre: np.ndarray, width: float, height: float) -> np.ndarray:
    """The outline of a large building in a ``width`` x ``height`` window: a rectangle, or an L with six corners."""
    outline = rectangle(centre, width - abs(site.angle) * 30, height - abs(site.angle) * 30, site.angle)
    if rng.random() < 0.3:  # one corner is cut out
        (a, b, c, d), u = outline, rng.uniform(0.35, 0.5, 2)
        ab, ad = (b - a) * u[0], (d - a) * u[1]
        outline = np.stack([a + ab, b, c, d, a + ad, a + ab + ad])
    return outline


def add_road(site: Site, rng: Generator, place: int, present: Present) -> list[Thing]:
    thing = Thing("road", place, road_line(rng, place), present, rng.random(8), width=float(rng.uniform(9, 14)))
    ground = footprint([thing], 64, 5)
    if (ground & site.taken.any(0)).sum() > 0.2 * ground.sum():  # crossing is fine, running into each other is not
        return []
    site.add(thing, margin=3.0)
    return [thing]


def _add_houses(site: Site, rng: Generator, place: int, present: Present, count: int, event: bool) -> list[Thing]:
    neighbours = int(rng.integers(1, 3)) if event and count < MOST_BUILT and rng.random() < 0.4 else 0
    if event:
        neighbours = min(neighbours, MOST_HOUSES - count - site.most("house"))
    near = place_centre(place) + rng.uniform(-8, 8, 2)
    big = 1.0 if count + neighbours <= 3 else 0.9
    added: list[Thing] = []
    for index in range(count + neighbours):
        width, height = rng.uniform(24, 30) * big, rng.uniform(19, 24) * big
        angle = site.angle + rng.uniform(-0.06, 0.06) + (np.pi / 2 if rng.random() < 0.3 else 0)
        c, s = abs(np.cos(angle)), abs(np.sin(angle))
        window = width * c + height * s + 5, width * s + height * c + 5
        dates = present if index < count else site.always
        spot = site.free_spot(rng, place_box(place), *window, dates, near)
        if spot is None:
            if index < count:
                site.things = [thing for thing in site.things if thing not in added]
                return []
            break
        added.append(Thing("house", place, rectangle(spot, width, height, angle), dates, rng.random(8)))
        site.add(added[-1], margin=4.5)
    return added[:count]


def _add_parking(site: Site, rng: Generator, place: int, present: Present, event: bool) -> list[Thing]:
    long, short = rng.uniform(56, 74), rng.uniform(36, 46)
    turned = bool(rng.random() < 0.5)
    extension = event and rng.random() < 0.4
    dates = site.always if extension else present  # a part of an extended lot is always there
    width, height = (short, long) if turned else (long, short)
    spot = site.free_spot(rng, place_box(place), width + 6, height + 6, dates, near=place_centre(place))
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
    site.add(Thing("parking", place, old, site.always, style))
    site.add(part := Thing("parking", place, new, present, style, partial=True))
    return [part]


def add_forest(site: Site, rng: Generator, place: int) -> bool:
    """Cover a whole place with trees at all dates; False if something else is in it."""
    t = np.linspace(0, 2 * np.pi, 29)[:-1]
    reach = (np.abs(np.cos(t)) ** 5 + np.abs(np.sin(t)) ** 5) ** -0.2 * 46 * rng.uniform(0.93, 1.04, 28)
    outline = np.stack([np.cos(t), np.sin(t)], 1) * reach[:, None] + place_centre(place)
    forest = Thing("trees", place, outline, site.always, rng.random(8))
    others = [thing for thing in site.things if thing.kind != "trees"]
    if (footprint([forest], 64) & footprint(others, 64, 4)).any():
        return False
    site.add(forest, margin=0)
    return True


def scatter_bushes(site: Site, rng: Generator) -> None:
    """Add single small trees on ground that is free at every date; they never change and are never counted."""
    free = np.argwhere(~site.taken.any(0))
    number = min(int(rng.integers(0, 16)), len(free))
    spots = free[rng.integers(len(free), size=number)] if number else free[:0]
    xy = spots[:, ::-1] * STEP + rng.uniform(0, STEP, (number, 2))
    site.bushes = np.concatenate([xy, rng.uniform(2.0, 3.6, (number, 1))], 1)
