"""PGM and PPM written as text (P2, P3), which neither Pillow nor GDAL reads correctly beyond 8 bits."""

import re
import warnings
from pathlib import Path

import numpy as np

from btcchat.errors import BTCChatError
from btcchat.media.source import Embedded

BINARY = {b"P2": b"P5", b"P3": b"P6"}  # plain kind -> the binary one with as many bands
MOST_BYTES = 2**26  # of text: an RGB image of 4 million pixels


def as_binary(source: Path | Embedded) -> Path | Embedded:
    """A PNM file of more than 8 bits in binary form. Raises BTCChatError for a plain one that is damaged or long."""
    with source.open("rb") as file:
        kind = file.read(2)
        text = file.read(MOST_BYTES + 1) if kind in BINARY else b""
    if kind not in BINARY:
        return source
    if len(text) > MOST_BYTES:
        raise BTCChatError(
            f"image '{source}' is a PPM written as text of more than {MOST_BYTES:,} bytes; write it in binary"
        )
    fault = f"image '{source}' is truncated or damaged"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy's, where it stops at what is not a number
            numbers = np.fromstring(re.sub(rb"#[^\n]*", b" ", text).decode("ascii"), dtype=np.int64, sep=" ")
    except (DeprecationWarning, ValueError):
        raise BTCChatError(f"{fault}: not everything in it is a number") from None
    width, height, most = numbers[:3].tolist()
    needed = width * height * (3 if kind == b"P3" else 1)
    values = numbers[3 : 3 + needed]
    if not 0 < needed == values.size:
        raise BTCChatError(f"{fault}: {values.size:,} values, {width} x {height} pixels need {needed:,}")
    if not 0 <= values.min() <= values.max() <= most:
        raise BTCChatError(f"{fault}: values from {values.min()} to {values.max()}, expected 0 to {most}")
    head = b"%s\n%d %d\n%d\n" % (BINARY[kind], width, height, most)
    return Embedded(str(source), head + values.astype(">u2" if most > 255 else "u1").tobytes())
