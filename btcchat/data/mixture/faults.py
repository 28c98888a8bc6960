"""Samples that cannot be made: the run stops, or continues without them and reports it. None is ever replaced."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from btcchat.data.records import Record
from btcchat.errors import BTCChatError

T = TypeVar("T")
BAD_SAMPLES = ("stop", "skip")


@dataclass(frozen=True)
class BadSample:
    """Takes the place of a sample until the batch, which leaves it out."""

    fault: str  # "levir_cc.json row 17: image 'a.png' not found"


def made(draw: Callable[[], Record], make_sample: Callable[[Record], T], bad_samples: str) -> T | BadSample:
    """The sample of a record that is drawn. Raises BTCChatError that names file and row; under "skip" a BadSample."""
    where = ""  # an error of drawing has it already
    try:
        record = draw()
        where = f"{record.where}: "
        return make_sample(record)
    except BTCChatError as error:
        fault = f"{where}{error}"
        if bad_samples == "skip":
            return BadSample(fault)
        raise BTCChatError(fault) from error
