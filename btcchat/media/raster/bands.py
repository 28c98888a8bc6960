"""Find the red, green and blue bands of a raster."""

import re
from collections.abc import Mapping, Sequence

COLOURS = ("red", "green", "blue")
NUMBERS = {4: "red", 3: "green", 2: "blue"}  # Sentinel-2, Landsat 8 and 9
OLDER_NUMBERS = {3: "red", 2: "green", 1: "blue"}  # Landsat 4, 5 and 7 have no coastal band before blue
# B4, B04, SR_B4, Band 4, "B4, central wavelength 665 nm" (GDAL's own words for Sentinel-2)
NUMBERED = re.compile(r"(?:.*_)?b(?:and)?[ _]?0*(\d+)(a?)(?:\W.*)?", re.IGNORECASE)


def named_colours(descriptions: Sequence[str | None]) -> tuple[int, int, int] | None:
    """The numbers, from 1, of red, green and blue by the names of the bands; None if they do not name all three."""
    names = [(text or "").strip().lower() for text in descriptions]
    numbers = [_satellite_band(name) for name in names]
    known = {number for number in numbers if number is not None}
    # Thermal band 6 is left out of their surface reflectances, and nothing follows band 7.
    older = {1, 2, 3, 7} <= known and 6 not in known and max(known) == 7
    table = OLDER_NUMBERS if older else NUMBERS
    pairs = zip(names, numbers, strict=True)
    return _triple([name if name in COLOURS else table.get(number or 0, "") for name, number in pairs])


def marked_colours(interpretations: Sequence[str]) -> tuple[int, int, int] | None:
    """The numbers, from 1, of the bands whose colour interpretation is red, green and blue."""
    return _triple(interpretations)


def _triple(colours: Sequence[str]) -> tuple[int, int, int] | None:
    places: Mapping[str, int] = {colour: number for number, colour in reversed(list(enumerate(colours, start=1)))}
    return (places["red"], places["green"], places["blue"]) if set(COLOURS) <= places.keys() else None


def _satellite_band(name: str) -> int | None:
    """The number in a name; 8A and 8 are different bands."""
    match = NUMBERED.fullmatch(name)
    return int(match[1]) if match and not match[2] and len(match[1]) < 4 else None
