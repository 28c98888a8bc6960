"""Scores of several models on the same pairs, each trained with several seeds: means over the seeds, with intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from btcchat.eval.captions.bootstrap import DRAWS, p_value
from btcchat.eval.captions.changes import says_no_change
from btcchat.eval.captions.counts import METRICS
from btcchat.eval.captions.predictions import Prediction, read_predictions
from btcchat.eval.captions.score import count_captions


@dataclass(frozen=True)
class Score:
    """Of one measure: of each run, and their mean over DRAWS draws of the pairs (the same for all that is compared)."""

    runs: np.ndarray  # (R,)
    draws: np.ndarray  # (DRAWS,)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.mean:.1f} ({low:.1f}-{high:.1f})"

    @property
    def mean(self) -> float:
        return float(self.runs.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, of the mean over the runs, by the pairs drawn."""
        return tuple(np.percentile(self.draws, [2.5, 97.5]).tolist())

    @property
    def ends(self) -> tuple[float, float, float]:
        """Mean, low, high."""
        return self.mean, *self.interval

    def against(self, other: "Score") -> str:
        """What it has more than ``other``, with the two-sided p of a paired bootstrap over the pairs."""
        return f"{self.mean - other.mean:+.1f} (p {p_value(self.draws - other.draws):.3f})"

    def to_json(self) -> dict:
        return {"mean": self.mean, "95 %": self.interval, "runs": self.runs.tolist()}


def drawn(rows: int) -> np.ndarray:
    """(DRAWS, rows): how often each row is drawn."""
    return np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), size=DRAWS)


def captions_of(run: Path) -> tuple[list[Prediction], list[str]]:
    """Rows and predictions of a run folder."""
    rows = read_predictions(run / "predictions.jsonl").rows
    return rows, [row.prediction for row in rows]


def scores_of(
    runs: Mapping[str, Sequence[Path]],
    changed: Sequence[bool] | None = None,
    says_changed: Callable[[str], bool] = lambda text: not says_no_change(text),
    free: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, dict[str, Score]]:
    """Name -> measure -> Score. runs: name -> run folders, one a seed, all on the same pairs; free: captions of them.

    Measures: METRICS of all pairs, "changed METRIC" of the changed ones, and "flags": told apart, in percent.
    changed: which pairs have changed, if the data's own flags do not say it.
    """
    rows, _ = captions_of(next(iter(runs.values()))[0])
    said = {name: [captions_of(run)[1] for run in folders] for name, folders in runs.items()}
    said |= {name: [captions] for name, captions in (free or {}).items()}
    changed = [bool(row.changed) for row in rows] if changed is None else changed
    parts = {"": list(range(len(rows))), "changed ": [number for number, one in enumerate(changed) if one]}
    counts = _counts(rows, said, parts)
    times = {part: drawn(len(some)) for part, some in parts.items()}
    found = {}
    for name, captions in said.items():
        found[name] = {}
        for part in parts:
            own = [counts[name, run, part] for run in range(len(captions))]
            points = np.stack([one.scores() for one in own])  # (R, 8)
            draws = np.mean([one.scores(times[part]) for one in own], axis=0)  # (DRAWS, 8)
            found[name] |= {f"{part}{m}": Score(points[:, n], draws[:, n]) for n, m in enumerate(METRICS)}
        right = [[says_changed(text) == truth for text, truth in zip(one, changed, strict=True)] for one in captions]
        found[name]["flags"] = share(np.array(right), np.ones_like(right, dtype=int), times[""])
    return found


def _counts(
    rows: Sequence[Prediction], said: Mapping[str, Sequence[Sequence[str]]], parts: Mapping[str, list[int]]
) -> dict:
    """(name, run, part) -> Counts, all of one run of METEOR."""
    runs = [(name, run) for name, captions in said.items() for run in range(len(captions))]
    places = {
        (*key, part): [number * len(rows) + row for row in some]
        for number, key in enumerate(runs)
        for part, some in parts.items()
    }
    texts = [text for name, run in runs for text in said[name][run]]
    return count_captions(texts, [row.references for row in rows] * len(runs), parts=places)


def share(right: np.ndarray, of: np.ndarray, times: np.ndarray) -> Score:
    """100 x the sum of ``right`` over that of ``of``, (R, N) each, a row a run; times: see `drawn`."""
    draws = np.mean([(times @ a) / (times @ b) for a, b in zip(right, of, strict=True)], axis=0)
    return Score(100 * right.sum(1) / of.sum(1), 100 * draws)
