"""The settings of a run of scenes."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from btcchat.decoding.options import GenerationOptions
from btcchat.errors import BTCChatError, choose
from btcchat.geo.clouds import CLOUDS
from btcchat.geo.registration import parse_shift
from btcchat.geo.tiles import LARGEST, SMALLEST
from btcchat.media.reading import DEFAULT, Reading

FORMATS = {"geojson": ".geojson", "gpkg": ".gpkg", "geoparquet": ".parquet"}
DTYPES = {"float32": "float32", "uint8": "uint8"}


@dataclass(frozen=True)
class Settings:
    """tile: side in pixels. overlap: the share of the side that neighbours have in common. gsd: metres per pixel on the
    ground, and crs: coordinate system of the grid (default: the last date's). min_valid: the share of a tile's pixels
    that must be valid in all dates. min_change: tiles with a lower change score are not captioned. threshold: for
    change scores and polygons (default: the model's). clouds: a name of CLOUDS. shift: auto, ignore, or (right, down)
    in pixels of the grid.
    """

    tile: int = 256
    overlap: float = 0.125
    gsd: float | None = None
    crs: str | None = None
    min_valid: float = 0.5
    min_change: float | None = None
    threshold: float | None = None
    questions: tuple[str, ...] = ()
    shift: str | tuple[float, float] | None = None
    reading: Reading = DEFAULT
    clouds: str = "mask"
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    batch_size: int = 8
    map_dtype: str = "float32"
    formats: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("tile", self.tile, SMALLEST, LARGEST),
            ("overlap", self.overlap, 0, 0.75),
            ("min-valid", self.min_valid, 0, 1),
            ("min-change", self.min_change, 0, 1),
            ("threshold", self.threshold, 0, 1),
            ("batch-size", self.batch_size, 1, 4096),
        ):
            if value is not None and not low <= value <= high:
                raise BTCChatError(f"--{name} is {value:g}, expected a number from {low:g} to {high:g}")
        if self.gsd is not None and not self.gsd > 0:
            raise BTCChatError(f"--gsd is {self.gsd:g}, expected metres on the ground, more than 0")
        if any(not question.strip() for question in self.questions):
            raise BTCChatError("a --question is empty; ask something, e.g. 'Were houses built?'")
        choose("value of clouds", self.clouds, CLOUDS)
        object.__setattr__(self, "shift", parse_shift(self.shift))
        choose("map type", self.map_dtype, DTYPES)
        for name in self.formats:
            choose("format", name, FORMATS)

    def record(self) -> dict[str, Any]:
        """For run.json: only the settings that affect the results of a tile."""
        shift = self.shift if self.shift is None or isinstance(self.shift, str) else list(self.shift)
        generation = {name: value for name, value in vars(self.generation).items() if value != ()}
        return {
            "tile": self.tile,
            "overlap": self.overlap,
            "gsd": self.gsd,
            "crs": self.crs,
            "min_valid": self.min_valid,
            "min_change": self.min_change,
            "threshold": self.threshold,
            "questions": list(self.questions),
            "shift": shift,
            **self.reading.record(),
            "clouds": self.clouds,
            "generation": generation,
            "batch_size": self.batch_size,
        }


def digest(record: Any) -> str:
    """A short hash of a record; equal records have equal hashes."""
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]
