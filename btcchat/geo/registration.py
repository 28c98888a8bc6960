"""Measure the shift between two dates by phase correlation of well-textured tiles, and decide what to do about it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np

from btcchat.errors import BTCChatError
from btcchat.geo.tiles import Tiles
from btcchat.geo.warp import OnGrid, Warped
from btcchat.media.frames import evenly

Shift: TypeAlias = tuple[float, float]  # pixels of the grid to the right and down

TILES = 24  # tiles to measure, at most
CANDIDATES = 3 * TILES  # tiles to choose them from
FEWEST = 3  # measured tiles needed for a median
VALID = 0.9  # share of valid pixels that a measured tile needs
TEXTURE = 0.15  # texture that a measured tile needs, as a share of the median tile's
UPSAMPLE = 20  # measure to a twentieth of a pixel
WARN, REFUSE = 1.0, 3.0  # pixels
SPREAD = 1.0  # pixels; if the tiles differ by more, no single shift fits


@dataclass(frozen=True)
class Registration:
    """Medians over tiles. right, down: pixels by which to move the earlier date so that it fits the last one; None if
    that could not be measured. spread: the median distance of a tile's shift from the median shift.
    """

    right: float | None
    down: float | None
    metres: float | None
    spread: float | None
    tiles: int

    @property
    def pixels(self) -> float | None:
        return None if self.right is None or self.down is None else float(np.hypot(self.right, self.down))

    def record(self) -> dict[str, Any]:
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}

    def text(self) -> str:
        if self.pixels is None:
            why = f"tiles with enough texture in both dates: {self.tiles}, needed: {FEWEST}"
            if self.spread is not None:
                why = f"it differs by {self.spread:.1f} pixels between tiles"
            return f"the shift between the dates could not be measured ({why})"
        return (
            f"the earlier date is {self.pixels:.2f} pixels = {self.metres:.2f} m off; to fit, it must move "
            f"{self.right:+.2f} right and {self.down:+.2f} down ({self.tiles} tiles, spread {self.spread:.2f})"
        )


def parse_shift(shift: str | Shift | None) -> str | Shift | None:
    """``--shift auto|ignore|RIGHT,DOWN``, where the two numbers may be a tuple too. Raises BTCChatError."""
    if shift is None or shift in ("auto", "ignore"):
        return shift
    try:
        right, down = map(float, shift.split(",") if isinstance(shift, str) else shift)
    except (TypeError, ValueError):
        right = down = math.nan
    if not math.isfinite(right + down):
        raise BTCChatError(
            f"--shift {shift}: expected auto, ignore or RIGHT,DOWN in pixels of the grid, such as --shift=2,-1.5"
        )
    return right, down


def measure(earlier: OnGrid, last: OnGrid, tiles: Tiles, numbers: Sequence[int]) -> Registration:
    """Measure the shift between two dates on at most TILES of the tiles ``numbers``."""
    from skimage.registration import phase_cross_correlation

    textured = _textured(earlier, last, tiles, numbers)
    shifts = []
    for before, after in textured:
        down, right = phase_cross_correlation(after, before, upsample_factor=UPSAMPLE)[0]
        if max(abs(right), abs(down)) < tiles.side / 4:  # a larger one is a chance peak
            shifts.append((right, down))
    if len(shifts) < FEWEST:
        return Registration(None, None, None, None, len(shifts))
    median = np.median(shifts, axis=0)
    spread = float(np.median(np.hypot(*(np.array(shifts) - median).T)))
    if spread > SPREAD:
        return Registration(None, None, None, spread, len(shifts))
    right, down = map(float, median)
    return Registration(right, down, float(np.hypot(right, down)) * tiles.grid.gsd, spread, len(shifts))


def decide(found: Registration, shift: str | Shift | None, name: str) -> tuple[Shift, str | None]:
    """The shift to apply to an earlier date, and a warning about it. Raises BTCChatError if the user has to choose."""
    if isinstance(shift, tuple):
        return shift, f"{name} is moved by {shift[0]:+.2f}, {shift[1]:+.2f} pixels (--shift)"
    if found.pixels is None:
        return (0.0, 0.0), f"{name}: {found.text()}; it is not moved"
    if shift == "auto" and found.right is not None and found.down is not None:
        moved = f"{name} is moved by {found.right:+.2f}, {found.down:+.2f} pixels (--shift auto)"
        return (found.right, found.down), moved
    if found.pixels > REFUSE and shift != "ignore":
        raise BTCChatError(
            f"{name}: {found.text()}; give --shift auto to move it, --shift RIGHT,DOWN or --shift ignore"
        )
    return (0.0, 0.0), f"{name}: {found.text()}; it is not moved" if found.pixels > WARN else None


def _textured(
    earlier: OnGrid, last: OnGrid, tiles: Tiles, numbers: Sequence[int]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Windows that are valid and have texture in both dates, prepared for the correlation."""
    found: list[tuple[float, tuple[np.ndarray, np.ndarray]]] = []
    for index in evenly(len(numbers), CANDIDATES):
        try:
            dates = [date.read(tiles.window(numbers[index])) for date in (earlier, last)]
        except BTCChatError:  # a damaged block; it is reported when the tile itself is read
            continue
        if min(date.valid.mean() for date in dates) < VALID:
            continue
        before, after = map(_prepared, dates)
        found.append((min(float(before.std()), float(after.std())), (before, after)))
    if not found:
        return []
    least = TEXTURE * float(np.median([texture for texture, _ in found]))
    kept = [pair for texture, pair in found if texture > max(least, 1e-6)]
    return [kept[index] for index in evenly(len(kept), TILES)]


def _prepared(pixels: Warped) -> np.ndarray:
    """Grey levels minus their mean, faded out towards the edges, which would otherwise be correlated too."""
    grey = pixels.values.mean(axis=2)
    grey = np.where(pixels.valid, grey - grey[pixels.valid].mean(), 0)
    height, width = grey.shape
    faded: np.ndarray = grey * np.hanning(height)[:, None] * np.hanning(width)
    return faded
