"""Read the tiles of a run. A `Job` is small enough to be sent to a worker."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from PIL import Image

from btcchat.errors import BTCChatError
from btcchat.geo.grid import Grid
from btcchat.geo.inputs import Files
from btcchat.geo.registration import Shift
from btcchat.geo.scene import Scene
from btcchat.geo.stretch import Range, frame
from btcchat.geo.tiles import Tiles
from btcchat.geo.warp import OnGrid, Warped
from btcchat.media.reading import Reading

Pair = tuple[int, int]  # numbers of two dates


@dataclass(frozen=True)
class Job:
    """The dates and how to read them: moved by ``shifts``, stretched by ``ranges``, cut into ``tiles``."""

    files: tuple[Files, ...]
    reading: Reading
    tiles: Tiles
    shifts: tuple[Shift, ...]
    ranges: tuple[Range, ...]
    min_valid: float

    @property
    def grid(self) -> Grid:
        return self.tiles.grid

    @property
    def pairs(self) -> list[Pair]:
        return date_pairs(len(self.files))


@dataclass
class TilePixels:
    """The pixels of a tile. frames: one per date; None if the tile is skipped or failed (``reason``).

    valid: bool (H, W), True where all dates are valid; None if a date could not be read (``failed``).
    """

    number: int
    frames: list[Image.Image] | None
    valid: np.ndarray | None
    reason: str | None = None

    @property
    def failed(self) -> bool:
        return self.valid is None


def date_pairs(dates: int) -> list[Pair]:
    """The first and the last date; in a series of three or more, also each date and the next."""
    first_last = (0, dates - 1)
    return [first_last] if dates == 2 else [first_last, *((number, number + 1) for number in range(dates - 1))]


class TileReader:
    """``with TileReader(job) as reader: reader.read(number)``."""

    def __init__(self, job: Job, dates: Sequence[OnGrid] | None = None) -> None:
        self.job, self._stack = job, ExitStack()
        if dates is None:
            scenes = [self._stack.enter_context(Scene(files, job.reading)) for files in job.files]
            dates = [OnGrid(scene, job.grid, shift) for scene, shift in zip(scenes, job.shifts, strict=True)]
        self.dates = dates

    def __enter__(self) -> "TileReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, number: int) -> TilePixels:
        """Read a tile. If its files are damaged there, the tile says so, because other tiles may be readable."""
        window = self.job.tiles.window(number)
        pixels, valid = list[Warped](), np.ones(window[3:1:-1], bool)
        try:
            for date in self.dates:
                if valid.any():  # otherwise the tile is skipped, whatever the other dates have
                    pixels.append(date.read(window))
                    valid &= pixels[-1].valid
        except BTCChatError as error:
            return TilePixels(number, None, None, str(error))
        if valid.mean() < self.job.min_valid or not valid.any():
            reason = (
                f"only {valid.mean():.0%} of its pixels are valid in all dates; --min-valid is {self.job.min_valid:.0%}"
            )
            return TilePixels(number, None, valid, reason)
        # A pixel that is not valid in one date is black in all; otherwise the edge of a cloud mask would be a change.
        frames = [
            frame(Warped(date.values, valid), limits) for date, limits in zip(pixels, self.job.ranges, strict=True)
        ]
        return TilePixels(number, frames, valid)
