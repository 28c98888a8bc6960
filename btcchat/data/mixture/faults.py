"""Samples that cannot be made: the run stops, or continues without them and reports it. They are never replaced."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from btcchat.data.records import Record
from btcchat.errors import BTCChatError

T = TypeVar("T")
BAD_SAMPLES = ("stop", "skip")


@dataclass(frozen=True)
class BadSample:
    """Stands in for a sample until it is left out of the batch."""

    fault: str  # "levir_cc.json row 17: image 'a.png' not found"


def made(draw: Callable[[], Record], make_sample: Callable[[Record], T], bad_samples: str) -> T | BadSample:
    """The sample of a drawn record. Raises BTCChatError that names file and row; with "skip", returns a BadSample."""
    where = ""  # errors from drawing already have it
    try:
        record = draw()
        where = f"{record.where}: "
        return make_sample(record)
    except BTCChatError as error:
        fault = f"{where}{error}"
        if bad_samples == "skip":
            return BadSample(fault)
        raise BTCChatError(fault) from error
