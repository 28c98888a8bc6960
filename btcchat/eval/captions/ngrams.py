"""BLEU, ROUGE-L and CIDEr-D of the captions of a set.

BLEU's counts come from pycocoevalcap. The others are implemented here because the library is slow: its ROUGE-L fills a
table as large as the product of two lengths, and its CIDEr-D recomputes the weight of an n-gram for every caption that
contains it. Repeated rows are counted once.

Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004; the longest common subsequence with bit vectors
follows Hyyro, "Bit-parallel LCS-length computation revisited", 2004. Vedantam, Zitnick and Parikh, "CIDEr:
Consensus-based Image Description Evaluation", CVPR 2015.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from btcchat.eval.captions.java import eval_package

CaptionRow = tuple[str, tuple[str, ...]]  # prediction, references
Vector = tuple[dict[tuple[str, ...], float], list[float], int]  # n-gram -> weight, norm of each order, length
ORDERS = (1, 2, 3, 4)
KEPT = 2**14  # texts whose n-grams are cached, 6 KB each; others are recomputed
SIGMA = 6.0  # width of CIDEr-D's penalty for a difference in length
BETA = 1.2  # of ROUGE-L: weight of recall relative to precision


class NGramScorer:
    """Counts and scores of any part of ``rows``; whatever does not depend on the part is computed once."""

    def __init__(self, rows: Sequence[CaptionRow]):
        self.rows = list(rows)
        self._different = list(dict.fromkeys(self.rows))
        self._ngrams = lru_cache(KEPT)(_ngrams)

    @cached_property
    def _bleu(self) -> dict[CaptionRow, list[int]]:
        scorer = eval_package("pycocoevalcap.bleu.bleu_scorer").BleuScorer
        return {row: _bleu_counts(scorer, *row) for row in self._different}

    @cached_property
    def _rouge(self) -> dict[CaptionRow, float]:
        return {row: _rouge_l(*row) for row in self._different}

    def bleu(self, part: Sequence[int]) -> np.ndarray:
        """Counts as in counts.Counts, (rows, 10); the reference length is that of the reference closest in length."""
        return np.array([self._bleu[self.rows[number]] for number in part], dtype=float)

    def rouge_l(self, part: Sequence[int]) -> np.ndarray:
        return np.array([self._rouge[self.rows[number]] for number in part])

    def cider_d(self, part: Sequence[int]) -> np.ndarray:
        """The scores of the rows, with the document frequencies of the references of the part."""
        counts = Counter(self.rows[number] for number in part)
        frequency: Counter[tuple[str, ...]] = Counter()
        for (_, references), repeats in counts.items():
            for ngram in set().union(*(self._ngrams(text) for text in references)):
                frequency[ngram] += repeats
        weight = {ngram: math.log(len(part)) - math.log(number) for ngram, number in frequency.items()}
        unseen = math.log(len(part))

        @lru_cache(KEPT)
        def vector(text: str) -> Vector:
            weights = {ngram: tf * weight.get(ngram, unseen) for ngram, tf in self._ngrams(text).items()}
            squares = [0.0] * len(ORDERS)
            for ngram, value in weights.items():
                squares[len(ngram) - 1] += value * value
            # The library uses the number of bigrams as the length.
            return weights, [math.sqrt(value) for value in squares], max(len(text.split()) - 1, 0)

        score = {}
        for prediction, references in counts:
            parts = [_similarity(vector(prediction), vector(text)) for text in references]
            score[prediction, references] = 10 * math.fsum(parts) / len(parts)
        return np.array([score[self.rows[number]] for number in part])


def _rouge_l(prediction: str, references: tuple[str, ...]) -> float:
    """The best precision and the best recall over the references, as in the library."""
    words, reference_words = prediction.split(), [text.split() for text in references]
    common = [longest_common(words, reference) for reference in reference_words]
    if not any(common):
        return 0.0
    precision = max(common) / len(words)
    recall = max(
        number / len(reference) for number, reference in zip(common, reference_words, strict=True) if reference
    )
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence. A bit of ``row`` is 0 where one more word of ``first`` is in common."""
    places: dict[str, int] = {}
    for number, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << number
    whole = row = (1 << len(first)) - 1
    for word in second:
        match = row & places.get(word, 0)
        row = (row + match | row - match) & whole
    return len(first) - row.bit_count()


def _bleu_counts(scorer: Callable[[str, list[str]], Any], prediction: str, references: tuple[str, ...]) -> list[int]:
    """scorer: the class BleuScorer of pycocoevalcap."""
    counts = scorer(prediction, list(references)).ctest[0]
    length = counts["testlen"]
    closest = min((abs(other - length), other) for other in counts["reflen"])[1]
    return [length, closest, *counts["guess"], *counts["correct"]]


def _ngrams(text: str) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(tuple(words[i : i + n]) for n in ORDERS for i in range(len(words) - n + 1))


def _similarity(tested: Vector, referred: Vector) -> float:
    """The mean over the orders of the clipped cosine of two weighted n-gram vectors, times the length penalty."""
    weights, norms, length = tested
    other_weights, other_norms, other_length = referred
    dots = [0.0] * len(ORDERS)
    for ngram, value in weights.items():
        other = other_weights.get(ngram)
        if other is not None:
            dots[len(ngram) - 1] += min(value, other) * other
    cosine = sum(
        dot / (a * b) if a and b else dot for dot, a, b in zip(dots, norms, other_norms, strict=True)
    )  # fmt: skip
    return cosine / len(ORDERS) * math.exp(-((length - other_length) ** 2) / (2 * SIGMA**2))
