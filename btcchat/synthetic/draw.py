"""Draw each kind of thing on a canvas of twice the scene's size (see render.CANVAS)."""

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from btcchat.synthetic.palette import CARS, Colour, Palette
from btcchat.synthetic.scene import Thing, rectangle
from btcchat.synthetic.textures import canopy_bank, cut

OFFSET = 4  # canvas pixels of margin: 2 x render.MARGIN
HEIGHTS = {"house": 1.0, "building": 1.7, "trees": 0.9}  # shadow lengths in house heights


def on_canvas(points: np.ndarray) -> np.ndarray:
    return points * 2 + OFFSET


def _flat(points: np.ndarray) -> list[float]:
    flat: list[float] = on_canvas(points).ravel().tolist()
    return flat


def _shade(colour: np.ndarray, factor: float) -> Colour:
    red, green, blue = (colour * factor).clip(0, 255).astype(int).tolist()
    return red, green, blue


def roads(draw: ImageDraw.ImageDraw, things: list[Thing], palette: Palette) -> None:
    for thing in things:  # shoulders first, so that crossings stay open
        width = round(2 * thing.width)
        draw.line(_flat(thing.points), fill=_shade(palette.soil, 0.92), width=width + 6, joint="curve")
    for thing in things:
        line = _flat(thing.points)
        draw.line(
            line, fill=_shade(palette.asphalt, 0.9 + 0.2 * thing.style[0]), width=round(2 * thing.width), joint="curve"
        )
    for thing in things:
        if thing.style[1] < 0.6:
            fine = on_canvas(_resample(thing.points, 9.0))
            for a, b in zip(fine[0::2], fine[1::2], strict=False):
                draw.line((*a, *b), fill=(206, 204, 192), width=2)


def _resample(points: np.ndarray, spacing: float) -> np.ndarray:
    along = np.concatenate([[0], np.hypot(*np.diff(points, axis=0).T).cumsum()])
    at = np.arange(0, along[-1], spacing)
    return np.stack([np.interp(at, along, points[:, 0]), np.interp(at, along, points[:, 1])], 1)


def road_cars(draw: ImageDraw.ImageDraw, things: list[Thing], rng: Generator) -> None:
    for thing in things:
        fine = _resample(thing.points, 6.0)
        for index in rng.integers(1, len(fine) - 1, rng.integers(0, 5)):
            ahead = fine[index + 1] - fine[index - 1]
            side = np.array([-ahead[1], ahead[0]]) / np.hypot(*ahead) * thing.width * 0.24
            _car(draw, fine[index] + side * (1 if rng.random() < 0.5 else -1), np.arctan2(ahead[1], ahead[0]), rng)


def _car(draw: ImageDraw.ImageDraw, centre: np.ndarray, angle: float, rng: Generator) -> None:
    colour = np.array(CARS[rng.integers(len(CARS))])
    draw.polygon(_flat(rectangle(centre + 0.6, 8.4, 4.4, angle)), fill=(40, 42, 46))
    draw.polygon(_flat(rectangle(centre, 8.2, 4.0, angle)), fill=_shade(colour, 1))
    draw.polygon(_flat(rectangle(centre, 3.6, 3.4, angle)), fill=_shade(colour, 0.62))


def _bays(thing: Thing) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, float]:
    """A lot's origin, its unit vectors along and across, how many bays a row has and its depth in pixels."""
    a, b, _, d = thing.points
    along, across = b - a, d - a
    length, depth = np.hypot(*along), np.hypot(*across)
    return a, along / length, across / depth, int((length - 3) // 6.2), depth


def parking(draw: ImageDraw.ImageDraw, things: list[Thing], palette: Palette) -> None:
    for thing in things:
        grey = palette.asphalt * 0.5 + np.array([104.0, 105, 108]) * 0.5
        draw.polygon(_flat(thing.points), fill=_shade(grey, 0.86 + 0.14 * thing.style[0]))
        origin, along, across, bays, depth = _bays(thing)
        for row in (1.5, depth - 12.5):
            for k in range(bays + 1):
                start = origin + along * (2 + 6.2 * k) + across * row
                draw.line(_flat(np.stack([start, start + across * 11])), fill=(214, 214, 208), width=2)


def parked_cars(draw: ImageDraw.ImageDraw, things: list[Thing], rng: Generator) -> None:
    for thing in things:
        origin, along, across, bays, depth = _bays(thing)
        angle, full = np.arctan2(across[1], across[0]), rng.uniform(0.15, 0.7)
        for row in (7.0, depth - 7.0):
            for k in np.flatnonzero(rng.random(bays) < full):
                _car(draw, origin + along * (5.1 + 6.2 * k) + across * row, angle, rng)


def ponds(draw: ImageDraw.ImageDraw, things: list[Thing], palette: Palette) -> None:
    for thing in things:
        centre = thing.points.mean(0)
        tone = 0.88 + 0.24 * thing.style[0]
        for scale, colour, factor in (
            (1.0, palette.soil, 0.82),
            (0.93, palette.water, 1.25),
            (0.84, palette.water, 1.08),
            (0.62, palette.water, 0.96),
            (0.36, palette.water, 0.88),
        ):
            draw.polygon(_flat(centre + (thing.points - centre) * scale), fill=_shade(colour, factor * tone))


def shadows(things: list[Thing], spots: np.ndarray, sun: np.ndarray, size: int) -> Image.Image:
    """Where the ground is in shadow, as the strength of it: "L" image of the canvas size."""
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)
    for thing in things:
        if thing.kind in HEIGHTS:
            outline = on_canvas(thing.points)
            cast = outline + sun * 2 * HEIGHTS[thing.kind]
            draw.polygon(cast.ravel().tolist(), fill=125)
            for a, b, c, d in zip(outline, np.roll(outline, -1, 0), np.roll(cast, -1, 0), cast, strict=True):
                draw.polygon([*a, *b, *c, *d], fill=125)
    for x, y, r in spots:
        cx, cy = on_canvas(np.array([x, y])) + sun
        draw.ellipse((cx - 2 * r, cy - 2 * r, cx + 2 * r, cy + 2 * r), fill=110)
    return image


def forests(canvas: Image.Image, things: list[Thing], palette: Palette, season: np.ndarray) -> None:
    """Crowns cut from the canopy texture, with a scalloped edge."""
    for thing in things:
        outline = on_canvas(thing.points)
        low = np.floor(outline.min(0)).astype(int) - 12
        width, height = (np.ceil(outline.max(0)).astype(int) + 12 - low).tolist()
        mask = Image.new("L", (width, height))
        draw = ImageDraw.Draw(mask)
        draw.polygon((outline - low).ravel().tolist(), fill=255)
        edge = _resample(np.concatenate([outline, outline[:1]]) - low, 11.0)
        for k, (x, y) in enumerate(edge):
            r = 6 + 4 * thing.style[k % 8]
            draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
        light = cut(canopy_bank(), thing.style, height, width)
        table = (np.arange(256)[:, None] / 104 * palette.canopy * season).clip(0, 255).astype(np.uint8)
        canvas.paste(Image.fromarray(table[light]), tuple(low.tolist()), mask)


def bushes(draw: ImageDraw.ImageDraw, spots: np.ndarray, palette: Palette, season: np.ndarray) -> None:
    for x, y, r in spots:
        cx, cy = on_canvas(np.array([x, y]))
        for shift, scale, light in ((0, 2.0, 0.85), (-1, 1.4, 1.15), (-2, 0.7, 1.4)):
            box = (cx - r * scale + shift, cy - r * scale + shift, cx + r * scale + shift, cy + r * scale + shift)
            draw.ellipse(box, fill=_shade(palette.canopy * season, light))


def houses(draw: ImageDraw.ImageDraw, things: list[Thing], palette: Palette, sun: np.ndarray) -> None:
    """Gable and hip roofs: faces towards the sun are lighter."""
    light = -sun / np.hypot(*sun)
    for thing in things:
        colour = palette.roof[int(thing.style[0] * len(palette.roof))] * (0.9 + 0.2 * thing.style[1])
        a, b, c, d = thing.points
        inset = 0.0 if thing.style[2] < 0.5 else 0.3
        west, east = (a + d) / 2, (b + c) / 2
        west, east = west + (east - west) * inset, east - (east - west) * inset
        for face in ((a, b, east, west), (c, d, west, east), (b, c, east), (d, a, west)):
            outward = (face[0] + face[1]) / 2 - (a + c) / 2
            glow = float(outward @ light) / np.hypot(*outward)
            draw.polygon(_flat(np.stack(face)), fill=_shade(colour, 0.98 + 0.22 * glow))
        draw.line(_flat(np.stack([west, east])), fill=_shade(colour, 1.3), width=1)
        if thing.style[3] < 0.5:
            spot = west + (east - west) * thing.style[4] + (b - a) * 0.05
            draw.polygon(_flat(rectangle(spot, 2.4, 2.4, 0.3)), fill=(92, 78, 72))


def halls(draw: ImageDraw.ImageDraw, things: list[Thing], palette: Palette, sun: np.ndarray) -> None:
    """Large flat roofs with a parapet, seams and machines."""
    for thing in things:
        colour = palette.hall[int(thing.style[0] * len(palette.hall))] * (0.92 + 0.14 * thing.style[1])
        centre = thing.points.mean(0)
        draw.polygon(_flat(thing.points), fill=_shade(colour, 0.74))
        draw.polygon(_flat(centre + (thing.points - centre) * 0.94), fill=_shade(colour, 1.0))
        whole = len(thing.points) == 4
        b, c, d = centre + (thing.points[1:4] - centre) * 0.9
        a = b + d - c
        seams = 3 + int(thing.style[2] * 6)
        for k in range(1, seams):
            start = a + (b - a) * k / seams if whole else (b + c) / 2 + (a - b) * (1 - k / seams)
            line = np.stack([start, d + (c - d) * k / seams])
            draw.line(_flat(line), fill=_shade(colour, 0.9), width=1)
        for k in range(1 + int(thing.style[3] * 4)):
            u, v = 0.15 + 0.7 * thing.style[(k + 4) % 8], (0.2 if whole else 0.65) + 0.25 * thing.style[(k + 6) % 8]
            spot = a + (b - a) * u + (d - a) * v
            angle = np.arctan2(*(b - a)[::-1])
            draw.polygon(_flat(rectangle(spot + sun * 0.4, 6, 5, angle)), fill=_shade(colour, 0.5))
            draw.polygon(_flat(rectangle(spot, 6, 5, angle)), fill=_shade(colour, 0.82))
