"""The plan of a run: the dates opened, put on one grid, aligned, and given one stretch."""

import logging
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from btcchat.errors import BTCChatError
from btcchat.geo.area import read_area
from btcchat.geo.grid import choose_grid
from btcchat.geo.inputs import Files
from btcchat.geo.job import Job, TileReader, date_pairs
from btcchat.geo.projection import name, near
from btcchat.geo.registration import Registration, Shift, decide, measure
from btcchat.geo.scene import Scene
from btcchat.geo.settings import Settings, digest
from btcchat.geo.stretch import overview, ranges
from btcchat.geo.tiles import Tiles
from btcchat.geo.warp import RESAMPLING, OnGrid
from btcchat.media.dates import in_order

log = logging.getLogger(__name__)
MOST_DATES = 16
BAND = re.compile(r"(?<![A-Za-z0-9])B(?:\d\d?|8A)(?![A-Za-z0-9])", re.IGNORECASE)  # in a name: B04, SR_B4, b8a


class Plan:
    """``with Plan(files, settings) as plan``: ``job``, ``numbers`` (the tiles of the run) and ``warnings``.

    Raises BTCChatError for dates that do not fit together.
    """

    def __init__(
        self,
        files: Sequence[Files],
        settings: Settings,
        *,
        dates: Sequence[str | None] = (),
        aoi: str | Path | None = None,
    ) -> None:
        if not 2 <= len(files) <= MOST_DATES:
            raise BTCChatError(f"got {len(files)} scene{'s' * (len(files) != 1)}; a run needs 2 to {MOST_DATES} dates")
        if dates and len(dates) != len(files):
            raise BTCChatError(
                f"got {len(dates)} date{'s' * (len(dates) != 1)} for {len(files)} scenes; give one for each"
            )
        if settings.clouds == "keep":
            files = [replace(one, clouds=None) for one in files]
        self.settings, self.warnings, self._stack = settings, list[str](), ExitStack()
        try:
            given = list(dates) or [None] * len(files)
            self.scenes = [
                self._stack.enter_context(Scene(one, settings.reading, date))
                for one, date in zip(files, given, strict=True)
            ]
            _check_not_bands(files, self.scenes)
            self._check_dates()
            self._lay_grid(aoi)
            self._register()
            self.job = self._job(files)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Plan":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    @property
    def dates(self) -> list[str | None]:
        return [scene.date for scene in self.scenes]

    def reader(self) -> TileReader:
        return TileReader(self.job, self.on_grid)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        log.warning("%s", text)

    def record(self) -> dict[str, Any]:
        """For run.json: everything that determines the pixels of a tile."""
        return {
            "dates": [scene.record() for scene in self.scenes],
            "grid": self.tiles.grid.record(),
            "aoi": self.aoi,
            "overlap_of_dates": round(self.overlap.share, 4),
            "resampling": [RESAMPLING if date.resampled else "none" for date in self.on_grid],
            "ranges": [None if one is None else list(one) for one in self.job.ranges],
            "registration": [found.record() for found in self.registrations],
            "shifts": [list(shift) for shift in self.job.shifts],
            "pairs": [list(pair) for pair in date_pairs(len(self.scenes))],
            "tiles": {
                "side": self.tiles.side,
                "stride": self.tiles.stride,
                "rows": len(self.tiles.tops),
                "columns": len(self.tiles.lefts),
                "in the run": len(self.numbers),
            },
        }

    def text(self) -> list[str]:
        """The plan in words."""
        grid, tiles = self.tiles.grid, self.tiles
        megapixels = grid.width * grid.height / 1e6
        dates = ", ".join(f"{scene.name} ({scene.date or 'no date'})" for scene in self.scenes)
        return [
            f"dates: {dates}",
            f"bands shown: {'; '.join(scene.shown() for scene in self.scenes)}",
            *(f"clouds of {scene.name}: masked by {scene.clouds.name}" for scene in self.scenes if scene.clouds),
            f"grid: {name(grid.crs)}, {grid.width:,} x {grid.height:,} pixels of {grid.gsd:.4g} m "
            f"({megapixels:,.1f} megapixels)",
            f"overlap of the dates: {self.overlap.share:.0%} of the smaller one",
            f"tiles: {len(self.numbers):,} of {tiles.side} x {tiles.side} pixels ({tiles.ground_side:,.0f} m), "
            f"{tiles.margin} of them shared with a neighbour",
            *(f"{scene.name}: {found.text()}" for scene, found in zip(self.scenes, self.registrations, strict=False)),
        ]

    def _check_dates(self) -> None:
        for earlier, later in zip(self.scenes, self.scenes[1:], strict=False):
            if not in_order(earlier.date, later.date):
                self.warn(
                    f"{earlier.name} is dated {earlier.date}, later than {later.name} ({later.date}); "
                    "give the earlier one first"
                )
        counts = [scene.stored_bands for scene in self.scenes]
        if len(set(counts)) > 1:
            shown = ", ".join(str(list(scene.rasters[0].channels.chosen)) for scene in self.scenes)
            numbers = " and ".join(map(str, counts))
            self.warn(
                f"the dates have {numbers} bands and may come from different sensors; the bands shown are {shown}"
            )

        if len({scene.deep for scene in self.scenes}) > 1:
            plain = ", ".join(scene.name for scene in self.scenes if not scene.deep)
            self.warn(
                f"{plain} has 8 bits and is shown as it is, but the other dates are stretched, so unchanged ground may "
                "look changed; give dates of one data type"
            )

    def _lay_grid(self, aoi: str | Path | None) -> None:
        settings = self.settings
        area = None if aoi is None else read_area(aoi)
        self.aoi = None if area is None else {"file": os.path.abspath(str(aoi)), "hash": digest(area[0].wkb_hex)}
        grid, self.overlap = choose_grid(
            self.scenes, gsd=settings.gsd, crs=settings.crs, aoi=area, smallest=settings.tile
        )
        self.tiles = Tiles(grid, settings.tile, settings.overlap)
        within = grid.outline() if area is None else near(*area, grid.crs, grid.outline())
        self.numbers = self.tiles.inside(within)

    def _register(self) -> None:
        """Measure the shift of each date against the last one, and move it if --shift says so."""
        grid, settings = self.tiles.grid, self.settings
        last = OnGrid(self.scenes[-1], grid)
        shared = set(self.tiles.inside(self.overlap.shape))
        candidates = [number for number in self.numbers if number in shared]
        self.registrations: list[Registration] = []
        self.shifts: list[Shift] = []
        for scene in self.scenes[:-1]:
            found = measure(OnGrid(scene, grid), last, self.tiles, candidates)
            self.registrations.append(found)
            shift, warning = decide(found, settings.shift, scene.name)
            self.shifts.append(shift)
            if warning is not None:
                self.warn(warning)
        self.shifts.append((0.0, 0.0))
        self.on_grid = [OnGrid(scene, grid, shift) for scene, shift in zip(self.scenes, self.shifts, strict=True)]

    def _job(self, files: Sequence[Files]) -> Job:
        overviews = [overview(date) for date in self.on_grid]
        limits = ranges(self.on_grid, overviews, self.settings.reading.stretch)
        reading, least = self.settings.reading, self.settings.min_valid
        return Job(tuple(files), reading, self.tiles, tuple(self.shifts), tuple(limits), least)


def _check_not_bands(files: Sequence[Files], scenes: Sequence[Scene]) -> None:
    """Raise BTCChatError if two dates are files of one band each whose names differ in the band alone."""
    found: dict[tuple[str, str, str | None], str] = {}
    for one, scene in zip(files, scenes, strict=True):
        if scene.stored_bands == 1:
            folder, file = os.path.split(one.paths[0])
            other = found.setdefault((folder, BAND.sub("B", file), scene.date), file)
            if other != file:
                raise BTCChatError(
                    f"{other} and {file} seem to be two bands of one date; give the bands of a date together, --before "
                    "RED GREEN BLUE --after RED GREEN BLUE, or --dates if they are two dates"
                )
