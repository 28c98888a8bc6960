"""The scene graph: what is where on a site, at which of its dates, and how things find free ground."""

from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from btcchat.synthetic.palette import Palette

SIZE = 256  # pixels a side; 0.5 m each
PLACES = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")
KINDS = ("house", "building", "road", "trees", "pond", "parking")
CELL = SIZE / 3
STEP = 4  # pixels a side of a cell of the occupancy grid
BORDER = 10.0  # the least distance in pixels of a change's centroid from the border to another place

Present = tuple[bool, ...]  # for each date, whether a thing is there
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels


@dataclass(frozen=True, eq=False)
class Thing:
    """One object: ``points`` (N, 2) x, y is its outline, for a road its centre line of ``width`` pixels."""

    kind: str
    place: int
    points: np.ndarray
    present: Present
    style: np.ndarray  # (8,) in [0, 1): the free choices of drawing
    width: float = 0.0
    partial: bool = False  # a part added to a thing that is there anyway (a lot's extension)


@dataclass
class Site:
    """A place on the ground over ``dates`` dates: colours, things, single trees, and what ground is taken."""

    dates: int
    background: str
    palette: Palette
    angle: float
    things: list[Thing] = field(default_factory=list)
    bushes: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))  # x, y, radius
    taken: np.ndarray = field(init=False)  # bool (dates, SIZE/STEP, SIZE/STEP)

    def __post_init__(self) -> None:
        self.taken = np.zeros((self.dates, SIZE // STEP, SIZE // STEP), bool)

    @property
    def always(self) -> Present:
        """Present at every date."""
        return (True,) * self.dates

    def at(self, date: int) -> list[Thing]:
        return [thing for thing in self.things if thing.present[date]]

    def most(self, kind: str) -> int:
        """The largest number of things of a kind at any date."""
        return max(sum(thing.kind == kind for thing in self.at(date)) for date in range(self.dates))

    def add(self, thing: Thing, margin: float = 3.0) -> None:
        """Put a thing on the ground; the ground around it by ``margin`` pixels is taken at its dates."""
        ground = footprint([thing], SIZE // STEP, margin)
        self.taken[list(thing.present)] |= ground
        self.things.append(thing)

    def free_spot(
        self, rng: Generator, box: Box, width: float, height: float, present: Present, near: np.ndarray
    ) -> np.ndarray | None:
        """A random centre (x, y) near ``near`` of a free ``width`` x ``height`` pixel window inside ``box``.

        Free means at all dates of ``present``. None if nothing is free.
        """
        w, h = int(np.ceil(width / STEP)), int(np.ceil(height / STEP))
        x0, y0, x1, y1 = (int(round(v / STEP)) for v in box)
        taken = self.taken[list(present), y0:y1, x0:x1].any(0)
        if taken.shape[0] < h or taken.shape[1] < w:
            return None
        total = np.zeros((taken.shape[0] + 1, taken.shape[1] + 1), np.int32)
        total[1:, 1:] = taken.cumsum(0).cumsum(1)
        count = total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]
        ys, xs = np.nonzero(count == 0)
        if len(xs) == 0:
            return None
        centres = np.stack([(xs + x0 + w / 2) * STEP, (ys + y0 + h / 2) * STEP], 1)
        cost = np.hypot(*(centres - near).T) + rng.random(len(xs)) * 14
        spot: np.ndarray = centres[cost.argmin()]
        return spot


def place_box(place: int) -> Box:
    """The box of one of the nine places."""
    row, column = divmod(place, 3)
    return column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL


def place_centre(place: int) -> np.ndarray:
    row, column = divmod(place, 3)
    return np.array([(column + 0.5) * CELL, (row + 0.5) * CELL])


def place_of(mask: np.ndarray) -> tuple[int, float]:
    """The place of the centroid of ``mask``, bool (256, 256), and its distance in pixels to the nearest other place."""
    ys, xs = np.nonzero(mask)
    x, y = xs.mean(), ys.mean()
    distance = min(abs(v - border) for v in (x, y) for border in (CELL, 2 * CELL))
    return int(y // CELL) * 3 + int(x // CELL), distance


def footprint(things: list[Thing], size: int = SIZE, margin: float = 0.0) -> np.ndarray:
    """The ground that ``things`` cover, grown by ``margin`` site pixels: bool (size, size)."""
    scale = size / SIZE
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)
    for thing in things:
        flat = (thing.points * scale).ravel().tolist()
        if thing.kind == "road":
            draw.line(flat, fill=1, width=max(1, round((thing.width + 2 * margin) * scale)), joint="curve")
        else:
            draw.polygon(flat, fill=1)
            if margin:
                draw.line(flat + flat[:2], fill=1, width=max(1, round(2 * margin * scale)))
    return np.asarray(image).astype(bool)


def rectangle(centre: np.ndarray, width: float, height: float, angle: float) -> np.ndarray:
    """Corners (4, 2) of a rectangle turned by ``angle`` radians; the first edge is along its width."""
    w, h = width / 2, height / 2
    corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]])
    c, s = np.cos(angle), np.sin(angle)
    outline: np.ndarray = corners @ np.array([[c, s], [-s, c]]) + centre
    return outline


def blob(rng: Generator, centre: np.ndarray, width: float, height: float, roughness: float = 0.16) -> np.ndarray:
    """A rounded natural outline (28, 2) that fits a ``width`` x ``height`` box."""
    t = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    radius = np.ones_like(t)
    for k in (2, 3, 4, 5):
        radius += roughness * rng.uniform(-1, 1) / (k - 1) ** 0.5 * np.cos(k * t + rng.uniform(0, 2 * np.pi))
    outline: np.ndarray = np.stack([radius * np.cos(t), radius * np.sin(t)], 1)
    low, high = outline.min(0), outline.max(0)
    outline = (outline - (low + high) / 2) / (high - low) * (width, height) + centre
    return outline


def road_line(rng: Generator, place: int) -> np.ndarray:
    """A bending centre line (N, 2) through the scene with its centroid in ``place``.

    It runs across the scene for an edge or the center, and round the corner for a corner.
    """
    row, column = divmod(place, 3)
    t = np.linspace(0, 1, 25)[:, None]
    if row != 1 and column != 1:
        reach, bend = rng.uniform(66, 88, 2), rng.uniform(48, 78, 2)
        start, middle, end = np.array([-6, reach[0]]), bend, np.array([reach[1], -6])
        line: np.ndarray = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
        if column == 2:
            line[:, 0] = SIZE - line[:, 0]
        if row == 2:
            line[:, 1] = SIZE - line[:, 1]
        return line
    along = t[:, 0] * (SIZE + 12) - 6
    sway = rng.uniform(-9, 9) * np.sin(2 * np.pi * (rng.uniform(0.5, 1.2) * t[:, 0] + rng.random()))
    across = (row if column == 1 else column) * CELL + CELL / 2 + rng.uniform(-12, 12) + sway
    across = across + rng.uniform(-10, 10) * (t[:, 0] - 0.5)
    vertical = row == 1 and (column != 1 or rng.random() < 0.5)
    return np.stack([across, along] if vertical else [along, across], 1)
