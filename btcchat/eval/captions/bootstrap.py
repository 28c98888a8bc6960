"""How much a score depends on the choice of pairs: a bootstrap, which resamples the pairs with replacement.

CIDEr-D keeps the document frequencies of the whole set, since they belong to the metric and not to the sample. Two runs
are compared on the same draws (Koehn, "Statistical Significance Tests for Machine Translation Evaluation", EMNLP 2004).
"""

from collections.abc import Sequence

import numpy as np

from btcchat.eval.captions.counts import Counts

DRAWS = 1000


def times(rows: int, draws: int, seed: int) -> np.ndarray:
    """How often each row is drawn, (draws, rows)."""
    return np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=draws)


def interval(counts: Counts, *, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """The ends of the 95 % interval of each of METRICS, (2, 8)."""
    ends: np.ndarray = np.percentile(counts.scores(times(len(counts.rouge_l), draws, seed)), [2.5, 97.5], axis=0)
    return ends


def difference(first: Counts, second: Counts, *, draws: int = DRAWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the 95 % interval of second minus first over the same rows, (2, 8), and its p, (8,)."""
    drawn = times(len(first.rouge_l), draws, seed)
    differences = second.scores(drawn) - first.scores(drawn)
    return np.percentile(differences, [2.5, 97.5], axis=0), p_value(differences)


def p_of_scores(p: float, scores: Sequence[float]) -> float | None:
    """``p``, or None if both runs score 0, since then no pair says anything about which is better."""
    return None if all(round(score, 2) == 0 for score in scores) else p


def p_text(p: float | None) -> str:
    return f"{'-':>9}" if p is None else f"{p:9.3f}"


def signed(value: float) -> str:
    """Two digits after the point, and no "-0.00"."""
    return f"{round(value, 2) + 0.0:+.2f}"


def p_value(differences: np.ndarray) -> np.ndarray:
    """Two-sided p of differences (draws, ...): twice the share with the opposite sign or 0, and never 0 itself."""
    tail: np.ndarray = np.minimum((differences <= 0).sum(0), (differences >= 0).sum(0))
    return np.minimum(1, 2 * (tail + 1) / (len(differences) + 1))
