"""Drawing a site at one date: terrain, things and their shadows at twice the size, then light and sensor."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from btcchat.synthetic import draw as pen
from btcchat.synthetic.scene import SIZE, Site
from btcchat.synthetic.textures import cloud_bank, cut, grain_bank

MARGIN = 2  # site pixels drawn around the scene, for misregistration
CANVAS = 2 * (SIZE + 2 * MARGIN)


@dataclass(frozen=True)
class Conditions:
    """What differs between two dates without being change."""

    gain: np.ndarray  # (3,) illumination, one factor a channel
    gamma: float
    season: np.ndarray  # (3,) tint of grass and trees
    shift: tuple[int, int]  # misregistration in half pixels, at most 2 pixels
    noise: float  # grey levels
    blur: float  # pixels
    sun: np.ndarray  # (2,) shadow of a one-storey house in pixels
    style: np.ndarray  # (8,) in [0, 1): noise pattern
    cars: int  # seed of where the cars are


def draw_conditions(rng: Generator, calm: float = 1.0) -> Conditions:
    """Draw the nuisances of one date; ``calm`` < 1 makes them milder (frames of a video)."""
    turn, length = rng.uniform(0, 2 * np.pi), rng.uniform(2.2, 4.6)
    tone = rng.uniform(-1, 1)
    return Conditions(
        gain=1 + calm * (rng.uniform(-0.16, 0.16) + rng.uniform(-0.04, 0.04, 3)),
        gamma=1 + calm * rng.uniform(-0.14, 0.14),
        season=1 + calm * tone * np.array([0.14, 0.03, -0.05]),
        shift=_shift(rng) if rng.random() < 0.7 * calm else (0, 0),
        noise=float(rng.uniform(1.0, 5.0)),
        blur=float(rng.uniform(0.3, 0.8)) * calm if rng.random() < 0.4 else 0.0,
        sun=np.array([np.cos(turn), np.sin(turn)]) * length,
        style=rng.random(8),
        cars=int(rng.integers(2**31)),
    )


def _shift(rng: Generator) -> tuple[int, int]:
    right, down = rng.integers(-4, 5, 2).tolist()
    return right, down


class Renderer:
    """Draws a site at any of its dates; what never changes is made once.

    ``style`` (16,) in [0, 1) chooses the terrain. ``render(date, conditions)`` gives uint8 (256, 256, 3).
    """

    def __init__(self, site: Site, style: np.ndarray):
        self.site, self.style = site, style
        self.terrain = _terrain(site, style)
        grain = cut(grain_bank(), style[8:11], SIZE, SIZE)
        self.grain = np.repeat(1 + 0.045 * grain[..., None], 3, axis=2)  # (256, 256, 3)

    def render(self, date: int, conditions: Conditions) -> np.ndarray:
        site, palette = self.site, self.site.palette
        things = site.at(date)
        by_kind = {kind: [t for t in things if t.kind == kind] for kind in {t.kind for t in things}}
        planes = [
            Image.fromarray((plane * tint).clip(0, 255).astype(np.uint8))
            for plane, tint in zip(self.terrain, conditions.season, strict=True)
        ]
        canvas = Image.merge("RGB", planes).resize((CANVAS, CANVAS), Image.Resampling.NEAREST)
        draw = ImageDraw.Draw(canvas)
        cars = np.random.default_rng(conditions.cars)
        pen.roads(draw, by_kind.get("road", []), palette)
        pen.ponds(draw, by_kind.get("pond", []), palette)
        pen.parking(draw, by_kind.get("parking", []), palette)
        pen.road_cars(draw, by_kind.get("road", []), cars)
        pen.parked_cars(draw, by_kind.get("parking", []), cars)
        canvas.paste((14, 18, 30), mask=pen.shadows(things, site.bushes, conditions.sun, CANVAS))
        pen.forests(canvas, by_kind.get("trees", []), palette, conditions.season)
        draw = ImageDraw.Draw(canvas)
        pen.bushes(draw, site.bushes, palette, conditions.season)
        pen.houses(draw, by_kind.get("house", []), palette, conditions.sun)
        pen.halls(draw, by_kind.get("building", []), palette, conditions.sun)
        return self._sense(canvas, conditions)

    def _sense(self, canvas: Image.Image, conditions: Conditions) -> np.ndarray:
        left, top = (2 * MARGIN + v for v in conditions.shift)
        image = canvas.reduce(2, box=(left, top, left + 2 * SIZE, top + 2 * SIZE))
        if conditions.blur:
            image = image.filter(ImageFilter.BoxBlur(conditions.blur))
        levels = np.linspace(0, 1, 256) ** conditions.gamma * 255
        table = (levels[:, None] * conditions.gain).astype(np.float32).T.ravel()
        image = image.point(np.rint(table).clip(0, 255).astype(np.uint8).tolist())
        values = np.asarray(image) * self.grain
        values += (cut(grain_bank(), conditions.style, SIZE, 3 * SIZE) * conditions.noise).reshape(SIZE, SIZE, 3)
        return np.clip(values, 0, 255, out=values).astype(np.uint8)


def _terrain(site: Site, style: np.ndarray) -> list[np.ndarray]:
    """Grass with bare patches, or soil with weeds: one float32 (260, 260) plane a channel, grey levels.

    Planes, because numpy is slow along a last axis of three.
    """
    side = SIZE + 2 * MARGIN
    first, second = cut(cloud_bank(), style, side, side), cut(cloud_bank(), style[3:], side, side)
    palette = site.palette
    main, other = (palette.grass, palette.soil) if site.background == "grass" else (palette.soil, palette.grass)
    share = ((second - 1.0 - style[6]) * 0.6).clip(0, 0.55)
    light = 1 + 0.085 * first + 0.05 * second
    return [(a + (b - a) * share) * light for a, b in zip(main, other, strict=True)]
