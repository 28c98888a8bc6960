"""A tile's results as a row of tiles.jsonl, from which every output is built.

A change map is stored as the model's value for each patch (float16), and the valid pixels as bits. That is a few
kilobytes per tile, from which any window of the map can be drawn again.
"""

import base64
import zlib
from typing import Any, TypedDict

import numpy as np

DONE, SKIPPED, FAILED = "done", "skipped", "failed"


class PairRow(TypedDict):
    """A tile and two dates. change: the share of its valid pixels above the threshold. patches: see `pack_patches`.
    caption: None if --min-change left it out."""

    change: float
    patches: str
    caption: str | None


class TileRow(TypedDict, total=False):
    """settings: hash of everything that affects the results. mask: see `pack_mask`; absent if all pixels are valid."""

    tile: int
    settings: str
    status: str
    reason: str | None
    valid: float
    mask: str
    pairs: list[PairRow]  # in the order of `job.date_pairs`
    answers: list[str]  # one per question


def pack_patches(distances: np.ndarray) -> str:
    """float (g, g), about 0 to 1, as text."""
    return base64.b64encode(np.ascontiguousarray(distances, "<f2").tobytes()).decode()


def unpack_patches(text: str) -> np.ndarray:
    """Text as float32 (g, g)."""
    values = np.frombuffer(base64.b64decode(text), "<f2").astype(np.float32)
    side = round(len(values) ** 0.5)
    return values.reshape(side, side)


def pack_mask(valid: np.ndarray) -> str:
    """bool (H, W) as text."""
    return base64.b64encode(zlib.compress(np.packbits(valid).tobytes(), 9)).decode()


def unpack_mask(row: TileRow, side: int) -> np.ndarray:
    """The valid pixels of a row, bool (side, side)."""
    if "mask" not in row:
        return np.ones((side, side), bool)
    bits = np.frombuffer(zlib.decompress(base64.b64decode(row["mask"])), np.uint8)
    return np.unpackbits(bits, count=side * side).reshape(side, side).astype(bool)


def left_out(number: int, settings: str, status: str, reason: str | None, valid: np.ndarray | None) -> TileRow:
    share = 0.0 if valid is None else round(float(valid.mean()), 4)
    return {"tile": number, "settings": settings, "status": status, "reason": reason, "valid": share}


def caption_of(row: dict[str, Any] | TileRow) -> str | None:
    """The caption of the first and the last date."""
    pairs = row.get("pairs") or []
    return pairs[0]["caption"] if pairs else None
