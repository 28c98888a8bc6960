"""Find out when an image was taken, from the tags or the names of its files, and compare two dates."""

import re
from collections.abc import Mapping
from datetime import date

ACQUIRED = (
    "ACQUISITIONDATETIME",
    "ACQUISITION_DATE",
    "ACQUISITION_TIME",
    "DATE_ACQUIRED",
    "PRODUCT_START_TIME",
    "SENSING_TIME",
    "DATETIME",
    "ACQUIRED",
)
WRITTEN = "TIFFTAG_DATETIME"  # often the day on which the file was written, so it comes last
_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_.:]?)(\d\d)\2(\d\d)(?!\d)")
_YEAR = re.compile(r"(?<![\d.])((?:19|20)\d\d)(?![\d.]\d)(?!\d)")


def scene_date(tags: Mapping[str, str], name: str) -> str | None:
    """An ISO date such as 2016-08-24, or a year; None if neither the tags nor the name have one."""
    upper = {key.upper(): value for key, value in tags.items()}
    for key in ACQUIRED:
        if found := day_in(upper.get(key, "")):
            return found
    if found := day_in(name):
        return found
    if year := _YEAR.search(name):
        return year[1]
    return day_in(upper.get(WRITTEN, ""))


def day_in(text: str) -> str | None:
    """The first date in a text, in ISO format."""
    for match in _DAY.finditer(text):
        try:
            return date(int(match[1]), int(match[3]), int(match[4])).isoformat()
        except ValueError:  # such as the path and row of a Landsat scene
            continue
    return None


def in_order(earlier: str | None, later: str | None) -> bool:
    """Whether two dates are in the right order; True if one is unknown or `scene_date` cannot read it."""
    first, second = (date and scene_date({}, date) for date in (earlier, later))
    if not first or not second:
        return True
    length = min(len(first), len(second))  # a year and a full date are compared by year
    return first[:length] <= second[:length]
