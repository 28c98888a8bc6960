"""The score card of a predictions file: all, changed and unchanged pairs, and how well the two are told apart."""

from dataclasses import dataclass
from importlib.metadata import version

from btcchat.eval.bootstrap import interval
from btcchat.eval.changes import SAME, accuracy, changed_rows, confusion, pair_changed
from btcchat.eval.counts import METRICS, Counts
from btcchat.eval.meteor import LONGEST, cut
from btcchat.eval.predictions import Predictions
from btcchat.eval.presets import PRESETS
from btcchat.eval.score import count_captions


@dataclass
class ScoreCard:
    preset: str
    counts: dict[str, Counts]
    flags: dict[str, dict[str, int]] | None  # confusion counts; None where no pair or every pair is unchanged
    flags_from: str
    notes: list[str]
    intervals: bool = False  # the 95 % ones, by bootstrap

    def as_dict(self) -> dict:
        flags = None
        if self.flags is not None:
            flags = {"accuracy": 100 * accuracy(self.flags), "confusion": self.flags, "truth": self.flags_from}
        return {
            "preset": self.preset,
            "scores": {name: self._numbers(counts) for name, counts in self.counts.items()},
            "changed_or_unchanged": flags,
            "notes": self.notes,
            "pycocoevalcap": version("pycocoevalcap"),
        }

    def _numbers(self, counts: Counts) -> dict:
        numbers = {"pairs": len(counts.rouge_l), **dict(zip(METRICS, counts.scores().tolist(), strict=True))}
        if self.intervals:
            numbers["95 %"] = dict(zip(METRICS, interval(counts).T.tolist(), strict=True))
        return numbers

    def __str__(self) -> str:
        width = max(map(len, self.counts))
        lines = [f"preset {self.preset}: {PRESETS[self.preset].about}; all scores x100", ""]
        lines.append(f"{'':{width}}  pairs " + " ".join(f"{name:>7}" for name in METRICS))
        for name, counts in self.counts.items():
            lines.append(f"{name:{width}}  {len(counts.rouge_l):5} " + _cells(counts.scores()))
            if self.intervals:
                low, high = interval(counts)
                lines += [f"{'95 % from':>{width}}        {_cells(low)}", f"{'to':>{width}}        {_cells(high)}"]
        if self.flags is not None:
            lines += ["", f"changed/unchanged accuracy {100 * accuracy(self.flags):.2f} % (truth: {self.flags_from})"]
            lines.append(f"{'':14} {'said changed':>14} {'said unchanged':>14}")
            for truth, said in self.flags.items():
                lines.append(f"{'is ' + truth:14} {said['changed']:14} {said['unchanged']:14}")
        return "\n".join(lines + ([""] if self.notes else []) + [f"note: {note}" for note in self.notes])


def _cells(values) -> str:
    return " ".join(f"{value:7.2f}" for value in values)


def score_card(
    read: Predictions,
    *,
    preset: str = "levir-cc",
    baseline: bool = False,
    intervals: bool = False,
    java: str | None = None,
) -> ScoreCard:
    """Score what `read_predictions` returned.

    baseline: also the sentence SAME for every pair, so that the numbers can be read: half of a test set like LEVIR-CC's
    is unchanged. intervals: 95 % intervals too.
    """
    rows = read.rows
    texts, references = [row.prediction for row in rows], [row.references for row in rows]
    changed = changed_rows(rows)
    split = any(changed) and not all(changed)
    parts = {"all": list(range(len(rows)))}
    if split:
        parts["changed only"] = [number for number, is_changed in enumerate(changed) if is_changed]
        parts["unchanged only"] = [number for number, is_changed in enumerate(changed) if not is_changed]
    if baseline:
        name = f'"{SAME}" for all'
        parts[name] = range(len(rows), 2 * len(rows))
        texts, references = texts + [SAME] * len(rows), references * 2
    counts = count_captions(texts, references, preset=preset, parts=parts, java=java)
    source = "the flags of the data" if all(row.changed is not None for row in rows) else "read from the references"
    flags = confusion(changed, texts[: len(rows)]) if split else None
    return ScoreCard(preset, counts, flags, source, _notes(read, flags is not None), intervals)


def _notes(read: Predictions, split: bool) -> list[str]:
    notes = []
    if read.duplicates:
        notes.append(f"{_count(read.duplicates, 'duplicate row')} dropped (the same id and the same texts)")
    if read.missing:
        shown = ", ".join(read.missing[:5]) + (", ..." if len(read.missing) > 5 else "")
        notes.append(f"{_count(len(read.missing), 'pair')} without a prediction not scored: {shown}")
    empty = sum(not row.prediction.strip() for row in read.rows)
    if empty:
        notes.append(f"{_count(empty, 'empty prediction')} scored as empty")
    long = sum(cut(text) != text for row in read.rows for text in (row.prediction, *row.references))
    if long:
        notes.append(f"{_count(long, 'text')} of more than {LONGEST} words cut there for METEOR")
    if split and len({row.references for row in read.rows if pair_changed(row.references) is False}) == 1:
        notes.append("unchanged pairs share their references: every n-gram is in all of them, so their CIDEr-D is 0")
    return notes


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
