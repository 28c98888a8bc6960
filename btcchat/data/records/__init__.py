"""Records: the rows of annotation files."""

from btcchat.data.records.record import (
    CODES,
    MEDIA_KEYS,
    Record,
    Records,
    characters,
    check_encodable,
    frames,
    parse,
    written,
)

__all__ = ["CODES", "MEDIA_KEYS", "Record", "Records", "characters", "check_encodable", "frames", "parse", "written"]
