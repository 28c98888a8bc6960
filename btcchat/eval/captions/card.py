"""The score card of a predictions file: all, changed and unchanged pairs, and how well the two are distinguished."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, TypeAlias

from typing_extensions import TypedDict

from btcchat.data.changed import pair_changed
from btcchat.eval.captions.bootstrap import interval
from btcchat.eval.captions.changes import accuracy, changed_rows, confusion
from btcchat.eval.captions.counts import METRICS, Counts
from btcchat.eval.captions.factuality import ClaimScores, factuality, factuality_text
from btcchat.eval.captions.meteor import LONGEST, cut
from btcchat.eval.captions.predictions import Predictions
from btcchat.eval.captions.presets import build_preset, levir_cc
from btcchat.eval.captions.score import count_captions

CaptionScores: TypeAlias = dict[str, Any]  # "pairs", each of METRICS and, with intervals, "95 %": metric -> [low, high]


class ChangeFlags(TypedDict):
    """How well the predictions distinguish changed from unchanged pairs."""

    accuracy: float  # in percent
    confusion: dict[str, dict[str, int]]  # of `confusion`
    truth: str  # where the truth comes from


class ScoreCard(TypedDict):
    """The output of ``btcchat score --json`` for captions, and the entry of a caption set in metrics.json."""

    preset: str
    scores: dict[str, CaptionScores]  # by part: "all", "changed only", a baseline
    changed_or_unchanged: ChangeFlags | None  # None if all pairs are changed, or all unchanged
    factuality: dict[str, ClaimScores]
    notes: list[str]
    pycocoevalcap: str  # its version


def score_card(
    predictions: Predictions,
    *,
    preset: str = "levir-cc",
    baselines: Mapping[str, Sequence[str]] | None = None,
    intervals: bool = False,
    java: str | None = None,
    notes: Sequence[str] = (),
) -> ScoreCard:
    """Score what `read_predictions` returned; `card_text` turns the result into tables.

    baselines: names and captions for the same rows. They are scored too, so that the numbers of the predictions have
    something to be compared with: half of a test set like LEVIR-CC's is unchanged. intervals: also compute 95 %
    intervals. notes: lines to add below the tables.
    """
    rows = predictions.rows
    texts, references = [row.prediction for row in rows], [row.references for row in rows]
    changed = changed_rows(rows)
    split = any(changed) and not all(changed)
    parts: dict[str, Sequence[int]] = {"all": list(range(len(rows)))}
    if split:
        parts["changed only"] = [number for number, is_changed in enumerate(changed) if is_changed]
        parts["unchanged only"] = [number for number, is_changed in enumerate(changed) if not is_changed]
    for name, captions in (baselines or {}).items():
        parts[name] = range(len(texts), len(texts) + len(rows))
        if split:
            parts[f"{name}, changed only"] = [len(texts) + number for number in parts["changed only"]]
        texts, references = texts + list(captions), references + [row.references for row in rows]
    counts = count_captions(texts, references, preset=preset, parts=parts, java=java)
    flags: ChangeFlags | None = None
    if split:
        table = confusion(changed, texts[: len(rows)])
        flagged = all(row.changed is not None for row in rows)
        source = "the flags of the data" if flagged else "read from the references"
        flags = {"accuracy": 100 * accuracy(table), "confusion": table, "truth": source}
    with_interval = {"all", "changed only", "unchanged only"} if intervals else ()
    return {
        "preset": preset,
        "scores": {name: _numbers(part, name in with_interval) for name, part in counts.items()},
        "changed_or_unchanged": flags,
        "factuality": factuality([row.prediction for row in rows], [row.references for row in rows]),
        "notes": [*_notes(predictions, split), *_captions_of(baselines or {}), *notes],
        "pycocoevalcap": version("pycocoevalcap"),
    }


def _captions_of(baselines: Mapping[str, Sequence[str]]) -> list[str]:
    """Quote the caption of each baseline that has one caption for all rows, unless its name quotes it already."""
    same = {name: captions[0] for name, captions in baselines.items() if len(set(captions)) == 1}
    return [f'{name}: "{caption}" for all' for name, caption in same.items() if levir_cc([caption])[0] not in name]


def _numbers(counts: Counts, with_interval: bool) -> CaptionScores:
    numbers: CaptionScores = {"pairs": len(counts.rouge_l), **dict(zip(METRICS, counts.scores().tolist(), strict=True))}
    if with_interval:
        numbers["95 %"] = dict(zip(METRICS, interval(counts).T.tolist(), strict=True))
    return numbers


def card_text(card: ScoreCard) -> str:
    """A card as tables."""
    width = max(map(len, card["scores"]))
    lines = [f"preset {card['preset']}: {build_preset(card['preset']).about}; all scores x100", ""]
    lines.append(f"{'':{width}}  pairs " + " ".join(f"{name:>7}" for name in METRICS))
    for name, row in card["scores"].items():
        lines.append(f"{name:{width}}  {row['pairs']:5} " + _cells(row[metric] for metric in METRICS))
        if "95 %" in row:
            low, high = zip(*(row["95 %"][metric] for metric in METRICS), strict=True)
            lines += [f"{'95 % from':>{width}}        {_cells(low)}", f"{'to':>{width}}        {_cells(high)}"]
    flags = card["changed_or_unchanged"]
    if flags is not None:
        lines += ["", f"changed/unchanged accuracy {flags['accuracy']:.2f} % (truth: {flags['truth']})"]
        lines.append(f"{'':14} {'said changed':>14} {'said unchanged':>14}")
        for truth, counts in flags["confusion"].items():
            lines.append(f"{'is ' + truth:14} {counts['changed']:14} {counts['unchanged']:14}")
    lines += ["", factuality_text(card["factuality"])]
    return "\n".join(lines + ([""] if card["notes"] else []) + [f"note: {note}" for note in card["notes"]])


def _cells(values: Iterable[float]) -> str:
    return " ".join(f"{value:7.2f}" for value in values)


def left_out(predictions: Predictions) -> list[str]:
    """Notes on rows that are not scored: duplicates, and pairs without a prediction."""
    notes = []
    if predictions.duplicates:
        notes.append(f"{_count(predictions.duplicates, 'duplicate row')} dropped (the same id and the same texts)")
    if missing := predictions.missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        notes.append(f"{_count(len(missing), 'pair')} without a prediction not scored: {shown}")
    return notes


def _notes(predictions: Predictions, split: bool) -> list[str]:
    rows, notes = predictions.rows, left_out(predictions)
    empty = sum(not row.prediction.strip() for row in rows)
    if empty:
        notes.append(f"{_count(empty, 'empty prediction')} scored as empty")
    long = sum(cut(text) != text for row in rows for text in (row.prediction, *row.references))
    if long:
        notes.append(f"{_count(long, 'text')} longer than {LONGEST} words, truncated for METEOR")
    if split and len({row.references for row in rows if pair_changed(row.references) is False}) == 1:
        notes.append("unchanged pairs share their references: every n-gram is in all of them, so their CIDEr-D is 0")
    return notes


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
