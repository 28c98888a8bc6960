"""Confidence intervals of accuracies, and the comparison of two runs.

Questions are resampled with replacement, as pairs are for captions (bootstrap.py). All that matters about a draw is how
many questions of each type a run answers correctly, so these counts are drawn directly, from a multinomial.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from btcchat.eval.answers.answers import groups, named, normalise, question_type, same
from btcchat.eval.captions.bootstrap import DRAWS, p_of_scores, p_text, p_value, signed
from btcchat.eval.captions.predictions import Prediction
from btcchat.eval.runs.samples import CLASSES

ALL = "overall"

# One group: number of questions, accuracies of the two runs, second minus first, and its interval and p.
AccuracyDifference = TypedDict(
    "AccuracyDifference",
    {"questions": int, "scores": list[float], "difference": float, "95 %": list[float], "p": float | None},
)


def right_answers(kind: str, rows: Sequence[Prediction], *, ranges: str | None = None) -> tuple[list[bool], list[str]]:
    """Return whether each answer is right, and the type of its question. kind: CLASSES or QUESTIONS."""
    truths = [row.references[0] for row in rows]
    if kind == CLASSES:
        names = sorted({normalise(truth) for truth in truths})
        answers = [named(row.prediction, names) for row in rows]
        return [answer == normalise(truth) for answer, truth in zip(answers, truths, strict=True)], [ALL] * len(rows)
    types = [question_type(row.question_type, truth) for row, truth in zip(rows, truths, strict=True)]
    marks = zip(rows, truths, types, strict=True)
    return [same(row.prediction, truth, ranges=kind == ranges) for row, truth, kind in marks], types


def accuracies(
    right: Sequence[Sequence[bool]], types: Sequence[str], *, draws: int = DRAWS, seed: int = 0
) -> dict[str, np.ndarray]:
    """For runs over the same questions, map the name of each group to its accuracies in percent, (draws + 1, runs).

    The first row is the measured accuracy; where a draw has no question of a group, the accuracy is NaN.
    """
    kinds, kind = np.unique(np.asarray(types), return_inverse=True)
    marks = np.asarray(right, dtype=int)  # (runs, N)
    pattern = (marks * 2 ** np.arange(len(marks))[:, None]).sum(0)  # (N,): which of the runs are right, as bits
    patterns = 2 ** len(marks)
    cells = np.bincount(kind * patterns + pattern, minlength=len(kinds) * patterns)
    drawn = np.random.default_rng(seed).multinomial(cells.sum(), cells / cells.sum(), size=draws)
    counts = np.concatenate([cells[None], drawn]).reshape(draws + 1, len(kinds), patterns)
    is_right = (np.arange(patterns)[:, None] >> np.arange(len(marks))) & 1  # (patterns, runs)
    hits, totals = counts @ is_right, counts.sum(-1, keepdims=True)  # (draws + 1, kinds, runs), (..., 1)
    result = {}
    with np.errstate(invalid="ignore"):
        for name, (members, mean) in groups(types).items():
            places = np.searchsorted(kinds, members)
            group_hits, group_totals = hits[:, places], totals[:, places]
            share = (group_hits / group_totals).mean(1) if mean else group_hits.sum(1) / group_totals.sum(1)
            result[name] = 100 * share
    return result


def intervals(right: Sequence[bool], types: Sequence[str]) -> dict[str, list[float]]:
    """The ends of the 95 % interval of each group's accuracy."""
    return {name: _ends(drawn[1:, 0]) for name, drawn in accuracies([right], types).items()}


def differences(first: Sequence[bool], second: Sequence[bool], types: Sequence[str]) -> dict[str, AccuracyDifference]:
    """Second run minus first, by group."""
    result: dict[str, AccuracyDifference] = {}
    totals = Counter(types)
    members = {name: kinds for name, (kinds, _) in groups(types).items()}
    for name, drawn in accuracies([first, second], types).items():
        gains = drawn[:, 1] - drawn[:, 0]  # (draws + 1,)
        result[name] = {
            "questions": sum(totals[kind] for kind in members[name]),
            "scores": drawn[0].tolist(),
            "difference": float(gains[0]),
            "95 %": _ends(gains[1:]),
            "p": p_of_scores(float(p_value(gains[1:][~np.isnan(gains[1:])])), drawn[0].tolist()),
        }
    return result


def differences_text(rows: Mapping[str, AccuracyDifference]) -> str:
    width = max(map(len, rows))
    lines = [f"{'':{width}}  questions        A        B     B - A   95 % interval            p"]
    for name, row in rows.items():
        first, second = row["scores"]
        low, high = row["95 %"]
        numbers = f"{row['questions']:9} {first:8.2f} {second:8.2f} {signed(row['difference']):>9}"
        lines.append(f"{name:{width}}  {numbers}   {signed(low):>7} to {signed(high):>6} {p_text(row['p'])}")
    return "\n".join(lines)


def _ends(values: np.ndarray) -> list[float]:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return [float(low), float(high)]
