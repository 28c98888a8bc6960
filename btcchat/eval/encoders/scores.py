"""Scores of several models on the same samples, each trained with several seeds: means over the seeds, with intervals.

The samples are resampled (captions/bootstrap.py), with the same draws for everything that is compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypedDict

import numpy as np

from btcchat.data.changed import says_no_change
from btcchat.eval.answers.accuracy import right_answers
from btcchat.eval.captions.bootstrap import DRAWS, p_of_scores, p_value, times
from btcchat.eval.captions.changes import changed_rows
from btcchat.eval.captions.counts import METRICS, Counts
from btcchat.eval.captions.predictions import Prediction
from btcchat.eval.captions.score import count_captions

FLAGS, ACCURACY = "changed or unchanged", "accuracy"  # of captions and of answers, in percent

SeedRows: TypeAlias = Sequence[Sequence[Prediction]]  # the answers of a model, for each of its seeds
# Minus another score: the difference, the ends of its 95 % interval, and p; None if both scores are 0.
ScoreDifference = TypedDict("ScoreDifference", {"difference": float, "95 %": list[float], "p": float | None})
ScoreValues = TypedDict("ScoreValues", {"mean": float, "95 %": list[float], "seeds": list[float]})


@dataclass(frozen=True)
class Score:
    """One measure: its value for each seed, and its mean over the seeds in each draw of the samples."""

    seeds: np.ndarray  # (R,)
    draws: np.ndarray  # (DRAWS,)

    def __str__(self) -> str:
        return score_text(self.values())

    @property
    def mean(self) -> float:
        return float(self.seeds.mean())

    @property
    def interval(self) -> list[float]:
        """The ends of the 95 % interval of the mean over the seeds, over draws of the samples."""
        return _ends(self.draws)

    def minus(self, other: "Score") -> ScoreDifference:
        """The paired difference, with the two-sided p of a bootstrap over the samples."""
        gains = self.draws - other.draws
        p = p_of_scores(float(p_value(gains)), (self.mean, other.mean))
        return {"difference": self.mean - other.mean, "95 %": _ends(gains), "p": p}

    def against(self, other: "Score") -> str:
        """`minus`, as text."""
        return difference_text(self.minus(other))

    def values(self) -> ScoreValues:
        return {"mean": self.mean, "95 %": self.interval, "seeds": self.seeds.tolist()}


def score_text(values: ScoreValues) -> str:
    """``42.6 (36.4-49.8)``: the mean and its interval."""
    low, high = values["95 %"]
    return f"{values['mean']:.1f} ({low:.1f}-{high:.1f})"


def difference_text(found: ScoreDifference) -> str:
    """``+3.3 (p 0.236)``."""
    p = "no p" if found["p"] is None else f"p {found['p']:.3f}"
    return f"{found['difference']:+.1f} ({p})"


def caption_scores(
    runs: Mapping[str, SeedRows], free: Mapping[str, Sequence[str]] | None = None, *, java: str | None = None
) -> dict[str, dict[str, Score]]:
    """Map each name and measure to a Score. runs: over the same pairs; free: captions of them not written by a model.

    Measures: METRICS of all pairs, "changed METRIC" of the changed ones if there are any, and FLAGS.
    """
    rows = next(iter(runs.values()))[0]
    captions = {name: [[row.prediction for row in one] for one in seeds] for name, seeds in runs.items()}
    captions |= {name: [list(texts)] for name, texts in (free or {}).items()}
    changed = changed_rows(rows)
    numbers = {"": list(range(len(rows))), "changed ": [number for number, one in enumerate(changed) if one]}
    parts = {name: own for name, own in numbers.items() if own}
    counts = _counts(rows, captions, parts, java)
    drawn = {part: times(len(own), DRAWS, 0) for part, own in parts.items()}
    found: dict[str, dict[str, Score]] = {}
    for name, seeds in captions.items():
        found[name] = {}
        for part in parts:
            own = [counts[name, seed, part] for seed in range(len(seeds))]
            points = np.stack([one.scores() for one in own])  # (R, 8)
            draws = np.mean([one.scores(drawn[part]) for one in own], axis=0)  # (DRAWS, 8)
            found[name] |= {f"{part}{m}": Score(points[:, n], draws[:, n]) for n, m in enumerate(METRICS)}
        right = [[says_no_change(text) != truth for text, truth in zip(one, changed, strict=True)] for one in seeds]
        found[name][FLAGS] = share(np.array(right), drawn[""])
    return found


def _counts(
    rows: Sequence[Prediction],
    captions: Mapping[str, Sequence[Sequence[str]]],
    parts: Mapping[str, list[int]],
    java: str | None,
) -> dict[tuple[str, int, str], Counts]:
    """Map (name, seed, part) to Counts, from one run of METEOR."""
    runs = [(name, seed) for name, seeds in captions.items() for seed in range(len(seeds))]
    keys = {str(number): (*run, part) for number, (run, part) in enumerate((r, p) for r in runs for p in parts)}
    places = {
        text: [runs.index((name, seed)) * len(rows) + row for row in parts[part]]
        for text, (name, seed, part) in keys.items()
    }
    texts = [text for name, seed in runs for text in captions[name][seed]]
    counts = count_captions(texts, [row.references for row in rows] * len(runs), parts=places, java=java)
    return {keys[text]: one for text, one in counts.items()}


def answer_scores(kind: str, runs: Mapping[str, SeedRows], *, ranges: str | None = None) -> dict[str, dict[str, Score]]:
    """Map each name to {ACCURACY: Score} over all questions or classes. kind, ranges: see `right_answers`."""
    found = {}
    for name, seeds in runs.items():
        right = np.array([right_answers(kind, rows, ranges=ranges)[0] for rows in seeds])
        found[name] = {ACCURACY: share(right, times(right.shape[1], DRAWS, 0))}
    return found


def share(right: np.ndarray, drawn: np.ndarray) -> Score:
    """The percentage of samples that are right: (R, N), a row per seed. drawn: (DRAWS, N), how often each is drawn."""
    draws = (drawn @ right.T / drawn.sum(1, keepdims=True)).mean(1)  # (DRAWS,)
    return Score(100 * right.mean(1), 100 * draws)


def _ends(draws: np.ndarray) -> list[float]:
    ends: list[float] = np.percentile(draws, [2.5, 97.5]).tolist()
    return ends
