"""Check whether the flag, the captions and the mask of a pair agree."""

import os

from btcchat.data.changed import disagreement
from btcchat.data.check.table import Fault
from btcchat.data.records import Record
from btcchat.data.records.record import media_source
from btcchat.errors import BTCChatError
from btcchat.media import load_image
from btcchat.media.reading import MASK


def check_agreement(record: Record, image_root: str) -> Fault | None:
    """Return the fault of a pair's mask, or how its flag, captions and mask contradict each other."""
    changed = None
    if record.modality == "pair" and record.row.get("mask") is not None:
        try:
            source = media_source(record.row["mask"], "mask", 1, record.where, image_root)
            if isinstance(source, str) and not os.path.exists(source):
                return "missing", f"mask '{source}' not found"
            changed = load_image(source, reading=MASK).getbbox() is not None
        except BTCChatError as error:
            return "unreadable", str(error).removeprefix(f"{record.where}: ")
    reason = disagreement(record.row, changed)
    return None if reason is None else ("disagreement", reason)
