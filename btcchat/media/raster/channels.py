"""The meaning of the stored numbers of a raster: the bands to read, no-data values, scale and offset."""

import logging
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from btcchat.errors import BTCChatError
from btcchat.media.notes import once
from btcchat.media.radiometry import whole_range
from btcchat.media.raster.bands import marked_colours, named_colours
from btcchat.media.raster.fills import fill_values, is_mask
from btcchat.media.raster.opening import structure
from btcchat.media.reading import Reading

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

log = logging.getLogger("btcchat.media.raster")


class Band(NamedTuple):
    """A band of a file. colour: GDAL's interpretation, such as red, gray, alpha or undefined."""

    number: int  # from 1
    description: str | None
    colour: str
    dtype: str
    nodata: float | None


class Channels:
    """The bands of a file that are read: ``chosen`` has their numbers, ``dtype`` is how they are stored.

    Raises BTCChatError for complex values and for bands that the file does not have.
    """

    def __init__(self, dataset: "DatasetReader", reading: Reading, name: str) -> None:
        self.name = name
        colours = [colour.name for colour in dataset.colorinterp]
        columns = dataset.descriptions, colours, dataset.dtypes, dataset.nodatavals
        self.bands = list(map(Band, range(1, dataset.count + 1), *columns))
        self.chosen = self._choose(reading)
        chosen = [self.bands[number - 1] for number in self.chosen]
        if any("complex" in band.dtype for band in chosen):
            raise BTCChatError(f"image '{name}' has complex values; write their amplitude to a file and give that")
        self.dtype = np.result_type(*(band.dtype for band in chosen))
        bits = dataset.tags(self.chosen[0], ns="IMAGE_STRUCTURE").get("NBITS", 8 * self.dtype.itemsize)
        self.bits = int(bits)  # of a value; fewer than its data type has where they are packed
        self._inverted = structure(dataset).get("MINISWHITE") == "YES"
        self.palette = self._read_palette(dataset) if [band.colour for band in chosen] == ["palette"] else None
        self._scales = np.array([dataset.scales[number - 1] for number in self.chosen])
        self._offsets = np.array([dataset.offsets[number - 1] for number in self.chosen])
        self.scaled = bool((self._scales != 1).any() or self._offsets.any())
        self.deep = (self.dtype != np.uint8 or self.scaled) and self.palette is None  # more than a screen's grey levels
        flags = {flag.name for flag in dataset.mask_flag_enums[self.chosen[0] - 1]}
        self.has_mask = "per_dataset" in flags and "alpha" not in flags
        self.alpha = next((band.number for band in self.bands if band.colour == "alpha"), None)
        self._nodata = [self._stored(band.nodata if reading.nodata is None else reading.nodata) for band in chosen]
        self.looks_for_fills = self.deep and reading.nodata is None
        self._hides = self.palette is not None and reading.nodata is None  # GDAL makes its no data transparent too
        self._fills: list[float] = []

    @property
    def count(self) -> int:
        """The number of bands shown: 1 or 3."""
        return len(self.chosen) if self.palette is None else 3

    @property
    def whole_range(self) -> tuple[float, float]:
        """The values that are black and white without a stretch."""
        return (0.0, 1.0) if self.scaled else whole_range(self.dtype, self.bits)

    def survey(self, stored: np.ndarray, valid: np.ndarray, alpha: np.ndarray | None) -> None:
        """Look at samples (N, B), valid (N,) and alpha (N,): is alpha a mask, is there a fill value?"""
        if alpha is not None and not is_mask(alpha):
            note = f"band {self.alpha} is marked as alpha but is not a mask (near infrared?); it is ignored"
            once(log, note, self.name)
            self.alpha = None
        elif alpha is not None:
            valid = valid & (alpha > 0)
        if self.looks_for_fills:
            self._fills = fill_values(stored[valid])
        for value in self._fills:
            note = f"{value:g} is far from all other values and taken as no data (black); change this with --nodata"
            once(log, note, self.name)

    def valid(self, stored: np.ndarray) -> np.ndarray:
        """(..., B) as stored -> bool (..., B) of what no data, fill values and the palette's transparency leave."""
        empty = np.zeros(stored.shape, bool)
        for band, value in enumerate(self._nodata):
            if value is not None:
                empty[..., band] = stored[..., band] == value
        for fill in self._fills:
            empty |= stored == fill
        if stored.dtype.kind == "f":
            empty |= ~np.isfinite(stored)
        elif stored.dtype == np.uint8:  # one band of a bright or dark colour may well have that value
            empty[:] = empty.all(axis=-1, keepdims=True)
        if self.palette is not None and self._hides:
            empty |= self.palette[stored][..., 3] == 0
        return ~empty

    def measured(self, stored: np.ndarray) -> np.ndarray:
        """(H, W, B) as stored -> with the palette's colours, WhiteIsZero turned round, scale and offset applied."""
        if self.palette is not None:
            return self.palette[stored[..., 0], :3]
        values = stored
        if self._inverted:
            values = -values if values.dtype.kind == "f" else ~values
        if self.bits < 8:
            highest = 2**self.bits - 1
            values = ((values & highest).astype(np.uint16) * 255 // highest).astype(np.uint8)
        return (values * self._scales + self._offsets).astype(np.float32) if self.scaled else values

    def _choose(self, reading: Reading) -> tuple[int, ...]:
        count = len(self.bands)
        if reading.bands is not None:
            if max(reading.bands) > count:
                listed = ",".join(map(str, reading.bands))
                raise BTCChatError(f"image '{self.name}' has {count} band{'s' * (count > 1)}, but --bands is {listed}")
            return reading.bands
        plain = [band.number for band in self.bands if band.colour != "alpha"] or [1]
        if len(plain) < 3:
            if len(plain) == 2:
                once(log, "the first of its two bands is read as grey; choose with --bands", self.name)
            return (plain[0],)
        names = named_colours([band.description for band in self.bands])
        colours = names or marked_colours([band.colour for band in self.bands])
        chosen = colours or (plain[0], plain[1], plain[2])
        listed = ", ".join(map(str, chosen))
        if not colours:
            note = f"its {count} bands are not marked; {listed} are taken as red, green, blue; choose with --bands"
            once(log, note, self.name)
        elif chosen != (1, 2, 3) or len(plain) > 3:
            by = "names" if names else "marks"
            once(log, f"bands {listed} of {count} are red, green, blue by their {by}; choose with --bands", self.name)
        return chosen

    def _read_palette(self, dataset: "DatasetReader") -> np.ndarray | None:
        """(N, 4) uint8: red, green, blue, alpha of each index; None where GDAL made a table for an inverted grey."""
        if self.dtype not in (np.uint8, np.uint16) or (self._inverted and self.dtype != np.uint8):
            return None
        table = dataset.colormap(self.chosen[0])
        palette = np.zeros((2 ** (8 * self.dtype.itemsize), 4), np.uint8)
        palette[list(table)] = list(table.values())
        return palette

    def _stored(self, value: float | str | None) -> np.generic | None:
        """A no-data value as pixels have it; None where none of them can. Not a number is never valid."""
        if value is None or isinstance(value, str) or math.isnan(value):
            return None
        if self.dtype.kind != "f":
            limits = np.iinfo(self.dtype)
            if not limits.min <= value <= limits.max or value != math.floor(value):
                return None
            value = int(value)
        with np.errstate(over="ignore"):
            stored: np.generic = self.dtype.type(value)
        return stored
