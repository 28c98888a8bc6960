"""Right and wrong answers: how far an accuracy could have been another with other questions, and two runs compared.

Questions are drawn again with replacement, as the pairs of captions are (bootstrap.py). Which ones of a type are drawn
does not matter, only how many that a run has right, so that these counts are drawn instead: a multinomial.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from btcchat.eval.answers.answers import groups, named, normalise, question_type, same
from btcchat.eval.captions.bootstrap import DRAWS, p_value
from btcchat.eval.captions.predictions import Row
from btcchat.eval.runs.samples import CLASSES

ALL = "overall"


def right_answers(kind: str, rows: Sequence[Row], *, ranges: str | None = None) -> tuple[list[bool], list[str]]:
    """-> whether each answer is right, and the type of its question. kind: CLASSES or QUESTIONS."""
    truths = [row.references[0] for row in rows]
    if kind == CLASSES:
        names = sorted({normalise(truth) for truth in truths})
        said = [named(row.prediction, names) for row in rows]
        return [one == normalise(truth) for one, truth in zip(said, truths, strict=True)], [ALL] * len(rows)
    types = [question_type(row.question_type, truth) for row, truth in zip(rows, truths, strict=True)]
    marks = zip(rows, truths, types, strict=True)
    return [same(row.prediction, truth, ranges=kind == ranges) for row, truth, kind in marks], types


def accuracies(right: Sequence[Sequence[bool]], types: Sequence[str], *, draws: int = DRAWS, seed: int = 0) -> dict:
    """Of one run or several over the same questions: -> name of a group -> (draws + 1, runs) accuracies in percent.

    The first line is what was measured; a group without a question in a draw is NaN there.
    """
    kinds, kind = np.unique(np.asarray(types), return_inverse=True)
    marks = np.asarray(right, dtype=int)  # (runs, N)
    pattern = (marks * 2 ** np.arange(len(marks))[:, None]).sum(0)  # (N,): which runs are right
    patterns = 2 ** len(marks)
    cells = np.bincount(kind * patterns + pattern, minlength=len(kinds) * patterns)
    drawn = np.random.default_rng(seed).multinomial(cells.sum(), cells / cells.sum(), size=draws)
    counts = np.concatenate([cells[None], drawn]).reshape(draws + 1, len(kinds), patterns)
    has = (np.arange(patterns)[:, None] >> np.arange(len(marks))) & 1  # (patterns, runs)
    hits, asked = counts @ has, counts.sum(-1, keepdims=True)  # (draws + 1, kinds, runs), (..., 1)
    found = {}
    with np.errstate(invalid="ignore"):
        for name, (members, mean) in groups(types).items():
            own = np.searchsorted(kinds, members)
            each = (hits[:, own] / asked[:, own]).mean(1) if mean else hits[:, own].sum(1) / asked[:, own].sum(1)
            found[name] = 100 * each
    return found


def intervals(right: Sequence[bool], types: Sequence[str]) -> dict[str, list[float]]:
    """The ends of the 95 % interval of each group's accuracy."""
    return {name: _ends(drawn[1:, 0]) for name, drawn in accuracies([right], types).items()}


def differences(first: Sequence[bool], second: Sequence[bool], types: Sequence[str]) -> dict[str, dict]:
    """Second minus first by group: accuracies, difference, its 95 % interval and p."""
    found, asked = {}, Counter(types)
    members = {name: kinds for name, (kinds, _) in groups(types).items()}
    for name, drawn in accuracies([first, second], types).items():
        apart = drawn[:, 1] - drawn[:, 0]
        p = float(p_value(apart[1:][~np.isnan(apart[1:])]))
        found[name] = {"questions": sum(asked[kind] for kind in members[name]), "scores": drawn[0].tolist()}
        found[name] |= {"difference": float(apart[0]), "95 %": _ends(apart[1:]), "p": p}
    return found


def differences_text(rows: dict[str, dict]) -> str:
    width = max(map(len, rows))
    lines = [f"{'':{width}}  questions        A        B     B - A   95 % interval            p"]
    for name, row in rows.items():
        first, second = row["scores"]
        low, high = row["95 %"]
        numbers = f"{row['questions']:9} {first:8.2f} {second:8.2f} {row['difference']:+9.2f}"
        lines.append(f"{name:{width}}  {numbers}   {low:+7.2f} to {high:+6.2f} {row['p']:9.3f}")
    return "\n".join(lines)


def _ends(values: np.ndarray) -> list[float]:
    return np.nanpercentile(values, [2.5, 97.5]).tolist()
