"""Compare change maps with masks: IoU, precision, recall and F1 of "changed where the map is at least T".

A map is stored in 256 levels, so the counts of a set at each level give every score at every threshold.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from typing_extensions import NotRequired, TypedDict  # pydantic reads no other on Python < 3.12

from btcchat.data.records.record import Record, media_source
from btcchat.errors import BTCChatError
from btcchat.eval.captions.bootstrap import DRAWS, times
from btcchat.eval.runs.samples import Sample
from btcchat.media.images import load_image
from btcchat.media.reading import MASK
from btcchat.media.source import Embedded, existing_file

LEVELS = 256
SCORES = ("IoU", "precision", "recall", "F1")

MapScores: TypeAlias = dict[str, Any]  # each of SCORES and, for measured maps, "95 %": score -> [low, high]
_MaskScores = TypedDict("_MaskScores", {"pairs": int, "changed pixels": float, "scores": dict[str, MapScores]})


class MaskScores(_MaskScores):
    """`mask_scores` of the pairs of a set: the share of changed pixels in percent, and the scores of each map."""


class Calibration(TypedDict):
    """The threshold, 0 to 1, with the best IoU (percent) over so many maps of a set that is not a test split."""

    set: str
    maps: int
    value: float
    IoU: float


class ThresholdScores(MaskScores):
    """The entry in metrics.json: with the threshold, 0 to 1, and how it was chosen."""

    threshold: float
    chosen: str
    calibration: NotRequired[Calibration]  # where it was not given


def mask_source(record: Record, flag: str = "--masks") -> Path | Embedded:
    """The mask of a pair: its path, or the embedded image. Raises BTCChatError that names the row and the flag."""
    if record.row.get("mask") is None:
        raise BTCChatError(f"{record.where}: no 'mask', which {flag} needs of every pair: an image, 0 where unchanged")
    source = media_source(record.row["mask"], "mask", 1, record.where, record.image_root)
    try:
        return existing_file(source, "mask")
    except BTCChatError as error:
        raise BTCChatError(f"{record.where}: {error}") from error


def changed_pixels(source: Path | Embedded) -> np.ndarray:
    """The changed pixels of a mask, bool (H, W): 128 (roads) and 255 (buildings) both count as changed."""
    changed: np.ndarray = np.asarray(load_image(source, reading=MASK)).max(-1) > 0
    return changed


def count(sample: Sample, path: Path) -> np.ndarray:
    """Pixels per level of the map at ``path``, (2, 256): where the mask is unchanged, and where it is changed."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            levels = np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise BTCChatError(f"{path} cannot be read ({error}); delete it and rerun to draw it again") from error
    source = mask_source(sample.record)
    changed = changed_pixels(source)
    if levels.dtype != np.uint8 or levels.shape != changed.shape:
        of_mask, of_map = (" x ".join(map(str, array.shape[1::-1])) for array in (changed, levels))
        raise BTCChatError(
            f"{sample.record.where}: the mask {source} is {of_mask} pixels, but the pair's change map is {of_map}; "
            "a mask must have the size of the 'after' image"
        )
    return np.stack([np.bincount(levels[changed == value], minlength=LEVELS) for value in (False, True)])


def level_of(threshold: float) -> int:
    """The lowest level at or above a threshold in 0..1."""
    return math.ceil(threshold * (LEVELS - 1) - 1e-9)


def best_level(counts: np.ndarray) -> int:
    """The level with the highest IoU, from counts (N, 2, 256)."""
    unchanged, changed = counts.sum(0)
    hits, false_alarms = (pixels[::-1].cumsum()[::-1] for pixels in (changed, unchanged))  # at or above each level
    return int(np.argmax(hits / np.maximum(changed.sum() + false_alarms, 1)))


def calibrate(counts: np.ndarray, name: str) -> Calibration:
    """The threshold of the maps and masks of the set ``name``, (N, 2, 256)."""
    level = best_level(counts)
    iou = _row(_outcomes(counts, level))["IoU"] or 0.0  # nothing changed in any mask
    return {"set": name, "maps": len(counts), "value": level / (LEVELS - 1), "IoU": iou}


def mask_scores(counts: np.ndarray, level: int) -> MaskScores:
    """Scores in percent over the pixels of all pairs (N, 2, 256), and of two constant maps for reference."""
    scores = {"change map": _row(_outcomes(counts, level))}
    drawn = times(len(counts), DRAWS, 0) @ _outcomes(counts, level)  # (draws, 3)
    ends = np.percentile(_ratios(drawn), [2.5, 97.5], axis=0)  # (2, 4)
    scores["change map"]["95 %"] = {name: _numbers(pair) for name, pair in zip(SCORES, ends.T, strict=True)}
    scores["everything changed"] = _row(_outcomes(counts, 0))
    scores["nothing changed"] = _row(_outcomes(counts, LEVELS))
    return {"pairs": len(counts), "changed pixels": 100 * counts[:, 1].sum() / counts.sum(), "scores": scores}


def _outcomes(counts: np.ndarray, level: int) -> np.ndarray:
    """(N, 3): hits (changed pixels above the threshold), false alarms (unchanged ones above it), misses."""
    false_alarms, hits = counts[:, :, level:].sum(-1).T
    return np.stack([hits, false_alarms, counts[:, 1].sum(-1) - hits], axis=1)


def _ratios(outcomes: np.ndarray) -> np.ndarray:
    """SCORES in percent, (D, 4), from (D, 3); NaN where there is nothing to divide by."""
    hits, false_alarms, misses = outcomes.T.astype(float)
    parts = [(hits, hits + false_alarms + misses), (hits, hits + false_alarms), (hits, hits + misses)]
    parts.append((2 * hits, 2 * hits + false_alarms + misses))
    with np.errstate(invalid="ignore"):
        return np.stack([100 * part / whole for part, whole in parts], axis=1)


def _row(outcomes: np.ndarray) -> MapScores:
    return dict(zip(SCORES, _numbers(_ratios(outcomes.sum(0, keepdims=True))[0]), strict=True))


def _numbers(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def mask_text(result: ThresholdScores) -> str:
    """The table of a set."""
    scores = result["scores"]
    width = max(map(len, scores))
    lines = [
        f"change maps against masks, over the pixels of {result['pairs']} pairs ({result['changed pixels']:.2f} % "
        "changed)",
        f"changed: at least {result['threshold']:.3f}, {result['chosen']}",
        "",
        f"{'':{width}} " + " ".join(f"{name:>9}" for name in SCORES),
    ]
    for name, row in scores.items():
        lines.append(f"{name:{width}} " + _cells(row[score] for score in SCORES))
        if "95 %" in row:
            low, high = zip(*row["95 %"].values(), strict=True)
            lines += [f"{'95 % from':>{width}} {_cells(low)}", f"{'to':>{width}} {_cells(high)}"]
    return "\n".join(lines)


def _cells(values: Iterable[float | None]) -> str:
    return " ".join(f"{'-':>9}" if value is None else f"{value:9.2f}" for value in values)
