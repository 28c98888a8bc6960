"""Colours of a site: one family of hues for training, another one for held-out scenes."""

import colorsys
from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]
Range = tuple[float, float]
Family = tuple[Range, Range, Range]  # hue in degrees, saturation, value

# Several rows are alternatives; a site takes one. The training families are wide and the held-out ones are between
# them, so that a model must read shape and texture.
TRAIN: dict[str, list[Family]] = {
    "grass": [
        ((74, 104), (0.26, 0.44), (0.38, 0.54)),
        ((48, 56), (0.26, 0.40), (0.42, 0.56)),
        ((131, 144), (0.18, 0.32), (0.36, 0.50)),
    ],
    "soil": [
        ((25, 39), (0.22, 0.40), (0.54, 0.74)),
        ((5, 12), (0.24, 0.40), (0.50, 0.66)),
        ((25, 45), (0.03, 0.10), (0.56, 0.74)),
    ],
    "canopy": [
        ((86, 124), (0.30, 0.48), (0.24, 0.34)),
        ((52, 64), (0.34, 0.48), (0.24, 0.34)),
        ((153, 166), (0.24, 0.38), (0.20, 0.30)),
    ],
    "water": [
        ((191, 215), (0.34, 0.55), (0.26, 0.40)),
        ((150, 165), (0.26, 0.42), (0.26, 0.36)),
        ((235, 245), (0.30, 0.48), (0.24, 0.38)),
    ],
    "asphalt": [
        ((200, 238), (0.02, 0.07), (0.36, 0.48)),
        ((30, 50), (0.03, 0.07), (0.58, 0.66)),
        ((0, 360), (0.00, 0.02), (0.34, 0.66)),
    ],
    "roof": [
        ((8, 24), (0.43, 0.62), (0.45, 0.66)),  # terracotta, brown
        ((0, 360), (0.00, 0.07), (0.24, 0.34)),  # dark shingle
        ((0, 360), (0.00, 0.07), (0.45, 0.90)),  # grey to white
        ((0, 344), (0.31, 0.41), (0.34, 0.82)),  # painted, any colour
        ((62, 215), (0.42, 0.60), (0.36, 0.66)),  # strong green to blue
    ],
    "hall": [
        ((0, 360), (0.00, 0.04), (0.58, 0.94)),  # gravel to white membrane
        ((176, 345), (0.35, 0.55), (0.45, 0.74)),  # blue to purple metal
        ((0, 145), (0.36, 0.55), (0.48, 0.76)),  # red to green metal
        ((0, 360), (0.15, 0.21), (0.50, 0.88)),  # pale, any colour
    ],
}
HELD_OUT: dict[str, list[Family]] = {
    "grass": [((58, 71), (0.28, 0.42), (0.44, 0.56)), ((108, 128), (0.22, 0.34), (0.34, 0.46))],
    "soil": [((14, 23), (0.28, 0.42), (0.52, 0.66)), ((41, 50), (0.12, 0.22), (0.62, 0.74))],
    "canopy": [((66, 82), (0.34, 0.48), (0.24, 0.34)), ((128, 150), (0.26, 0.38), (0.22, 0.32))],
    "water": [((168, 188), (0.30, 0.45), (0.28, 0.38)), ((218, 232), (0.34, 0.50), (0.24, 0.36))],
    "asphalt": [((20, 40), (0.05, 0.10), (0.38, 0.48)), ((240, 280), (0.03, 0.06), (0.54, 0.64))],
    "roof": [
        ((346, 358), (0.42, 0.55), (0.42, 0.56)),  # maroon
        ((222, 240), (0.18, 0.30), (0.30, 0.42)),  # slate
        ((26, 40), (0.50, 0.62), (0.68, 0.80)),  # ochre
        ((50, 60), (0.08, 0.14), (0.78, 0.88)),  # cream
    ],
    "hall": [
        ((150, 172), (0.22, 0.34), (0.58, 0.72)),  # green metal
        ((44, 56), (0.08, 0.14), (0.82, 0.92)),  # cream membrane
        ((220, 250), (0.05, 0.12), (0.72, 0.82)),  # bluish gravel
    ],
}
CARS: tuple[Colour, ...] = (
    (225, 225, 228),
    (40, 42, 48),
    (150, 152, 156),
    (150, 40, 38),
    (48, 74, 120),
    (196, 190, 176),
)


@dataclass(frozen=True)
class Palette:
    """Colours of one site, RGB 0-255. ``roof`` and ``hall`` are lists a building picks from."""

    grass: np.ndarray
    soil: np.ndarray
    canopy: np.ndarray
    water: np.ndarray
    asphalt: np.ndarray
    roof: list[np.ndarray]
    hall: list[np.ndarray]


def _sample(rng: np.random.Generator, family: Family) -> np.ndarray:
    (h0, h1), (s0, s1), (v0, v1) = family
    hue, saturation, value = rng.uniform((h0, s0, v0), (h1, s1, v1))
    return np.array(colorsys.hsv_to_rgb(hue / 360, saturation, value), np.float32) * 255


def draw_palette(rng: np.random.Generator, *, heldout: bool, background: str) -> Palette:
    """Draw a site's colours; roofs too close to the ``background`` ("grass" | "soil") are left out."""
    table = HELD_OUT if heldout else TRAIN
    one = {
        name: _sample(rng, table[name][rng.integers(len(table[name]))])
        for name in ("grass", "soil", "canopy", "water", "asphalt")
    }
    ground = one[background]
    while np.abs(one["asphalt"] - ground).max() < 48:  # a road must stand out from what it crosses
        one["asphalt"] = _sample(rng, table["asphalt"][rng.integers(len(table["asphalt"]))])
    return Palette(**one, roof=_roofs(rng, table["roof"], ground), hall=_roofs(rng, table["hall"], ground))


def _roofs(rng: np.random.Generator, families: list[Family], ground: np.ndarray) -> list[np.ndarray]:
    """A colour of each family, without those too close to the ground; drawn again if none is left."""
    while True:
        colours = [_sample(rng, family) for family in families]
        if kept := [colour for colour in colours if np.abs(colour - ground).max() > 38]:
            return kept
