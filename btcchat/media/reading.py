"""How images become grey levels: bands, stretch and no-data value. One object for all commands."""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

from btcchat.errors import BTCChatError, unknown, wrong_type

STRETCHES = {
    "shared": "one range of values for all dates of a sample",
    "per-date": "a separate range for each date",
    "none": "the whole range of the data type; of floating point, 0 to 1",
}
FLAGS = ("bands", "stretch", "nodata")
NO_NODATA = "none"  # --nodata none: every value is shown, even if the file has a no-data value

Stretch: TypeAlias = str | tuple[float, float]


@dataclass(frozen=True)
class Reading:
    """How TIFF, JPEG 2000 and images of more than 8 bits a band are read.

    bands: numbers from 1, three (red, green, blue) or one (grey); None: those that are marked, else the first three.
    stretch: a name of STRETCHES, or the values (low, high) that become black and white; 8-bit images are never
    stretched. nodata: a value that is no data, and the only one; "none": no value is; None: as the file says, and a
    fill value that is recognised. Raises BTCChatError for values out of range, TypeError for a wrong type.
    """

    bands: tuple[int, ...] | None = None
    stretch: Stretch = "shared"
    nodata: float | str | None = None

    def __post_init__(self) -> None:
        _check_bands(self.bands)
        _check_stretch(self.stretch)
        if self.nodata is not None and self.nodata != NO_NODATA and not _is_number(self.nodata):
            raise wrong_type("nodata", self.nodata, "a number, 'none' or None")

    @classmethod
    def parse(cls, bands: str | None = None, stretch: str | None = None, nodata: str | None = None) -> "Reading":
        """Parse the texts of --bands, --stretch and --nodata. Raises BTCChatError that names the flag."""
        given: dict[str, Any] = {}
        if bands is not None:
            given["bands"] = _numbers("--bands", bands, int, "three band numbers such as 4,3,2, or one")
        if stretch is not None:
            kinds = f"{', '.join(STRETCHES)} or LOW,HIGH such as 0,3000"
            given["stretch"] = stretch if stretch in STRETCHES else _numbers("--stretch", stretch, float, kinds)
        if nodata is not None:
            given["nodata"] = NO_NODATA if nodata == NO_NODATA else _numbers("--nodata", nodata, float, "a number")[0]
        return cls(**given)

    def record(self) -> dict[str, Any]:
        """The reading for JSON: in run.json, --json and caches."""
        stretch = self.stretch if isinstance(self.stretch, str) else "{:g},{:g}".format(*self.stretch)
        nodata = self.nodata if self.nodata is None else str(self.nodata)  # JSON has no NaN
        return {"bands": self.bands and ",".join(map(str, self.bands)), "stretch": stretch, "nodata": nodata}


def _numbers(flag: str, text: str, kind: type, expected: str) -> tuple[Any, ...]:
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise BTCChatError(f"{flag} {text}: expected {expected}") from None


def _check_bands(bands: object) -> None:
    if bands is None:
        return
    if not isinstance(bands, tuple) or not all(isinstance(band, int) for band in bands):
        raise wrong_type("bands", bands, "a tuple of band numbers such as (4, 3, 2)")
    if len(bands) not in (1, 3) or min(bands) < 1:
        raise BTCChatError(f"bands {bands}: expected three (red, green, blue) or one (grey), counted from 1")


def _check_stretch(stretch: object) -> None:
    if isinstance(stretch, str):
        if stretch not in STRETCHES:
            raise BTCChatError(f"{unknown('stretch', stretch, STRETCHES)}, or give LOW,HIGH")
    elif not isinstance(stretch, tuple) or not all(map(_is_number, stretch)):
        raise wrong_type("stretch", stretch, "a name or a tuple (low, high)")
    elif len(stretch) != 2 or not -math.inf < stretch[0] < stretch[1] < math.inf:
        text = ",".join(f"{value:g}" for value in stretch)
        raise BTCChatError(f"stretch {text}: expected LOW,HIGH, two numbers of which the first is the smaller")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


DEFAULT = Reading()
MASK = Reading(stretch=(0.0, 1.0), nodata=NO_NODATA)  # what is not 0 is a change, of whatever data type
