"""Samples that cannot be made: the run stops, or goes on without them and says so. None is ever replaced."""

from collections.abc import Callable
from dataclasses import dataclass

from btcchat.data.records import Record
from btcchat.errors import BTCChatError

BAD_SAMPLES = ("stop", "skip")


@dataclass(frozen=True)
class BadSample:
    """Stands for a sample on its way to the batch that goes without it."""

    fault: str  # "levir_cc.json row 17: image 'a.png' not found"


def made(draw: Callable[[], Record], make_sample: Callable[[Record], dict], bad_samples: str) -> dict | BadSample:
    """The sample of a record that is drawn. Raises BTCChatError that names file and row; under "skip" a BadSample."""
    where = ""  # what drawing raises has it
    try:
        record = draw()
        where = f"{record.where}: "
        return make_sample(record)
    except BTCChatError as error:
        fault = f"{where}{error}"
        if bad_samples == "skip":
            return BadSample(fault)
        raise BTCChatError(fault) from error
