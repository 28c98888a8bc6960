"""A tile's results as a row of tiles.jsonl, from which every output is built.

A change map is kept as what the model measured, a value a patch (float16), and what is valid as bits: a few kilobytes a
tile, of which any window of the map can be drawn again.
"""

import base64
import zlib
from typing import Any, TypedDict

import numpy as np

DONE, SKIPPED, FAILED = "done", "skipped", "failed"


class PairRow(TypedDict):
    """Of a tile and two dates. change: the share of its valid pixels above the threshold. patches: see `pack_patches`.
    caption: None where --min-change left it out."""

    change: float
    patches: str
    caption: str | None


class TileRow(TypedDict, total=False):
    """settings: the hash of what decides the results. mask: see `pack_mask`; absent where all pixels are valid."""

    tile: int
    settings: str
    status: str
    reason: str | None
    valid: float
    mask: str
    pairs: list[PairRow]  # in the order of `job.date_pairs`
    answers: list[str]  # one a question


def pack_patches(distances: np.ndarray) -> str:
    """(g, g) in 0..1 or so -> text."""
    return base64.b64encode(np.ascontiguousarray(distances, "<f2").tobytes()).decode()


def unpack_patches(text: str) -> np.ndarray:
    """-> float32 (g, g)."""
    values = np.frombuffer(base64.b64decode(text), "<f2").astype(np.float32)
    side = round(len(values) ** 0.5)
    return values.reshape(side, side)


def pack_mask(valid: np.ndarray) -> str:
    """bool (H, W) -> text."""
    return base64.b64encode(zlib.compress(np.packbits(valid).tobytes(), 9)).decode()


def unpack_mask(row: TileRow, side: int) -> np.ndarray:
    """-> bool (side, side)."""
    if "mask" not in row:
        return np.ones((side, side), bool)
    bits = np.frombuffer(zlib.decompress(base64.b64decode(row["mask"])), np.uint8)
    return np.unpackbits(bits, count=side * side).reshape(side, side).astype(bool)


def left_out(number: int, settings: str, status: str, reason: str | None, valid: np.ndarray | None) -> TileRow:
    share = 0.0 if valid is None else round(float(valid.mean()), 4)
    return {"tile": number, "settings": settings, "status": status, "reason": reason, "valid": share}


def caption_of(row: dict[str, Any] | TileRow) -> str | None:
    """What changed from the first to the last date."""
    pairs = row.get("pairs") or []
    return pairs[0]["caption"] if pairs else None
