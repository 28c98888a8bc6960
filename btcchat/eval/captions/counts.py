"""The counts that each row contributes to the scores of a set, and the scores of any set of such rows."""

from dataclasses import dataclass

import numpy as np

from btcchat.eval.captions.meteor import meteor_score

METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D", "S*m")


@dataclass(frozen=True)
class Counts:
    """Counts of N rows. BLEU and METEOR of a set use the sums of its counts, ROUGE-L and CIDEr-D the means of rows."""

    bleu: np.ndarray  # (N, 10): words, words of the closest reference, n-grams (4), n-grams right (4)
    meteor: np.ndarray  # (N, 23)
    rouge_l: np.ndarray  # (N,)
    cider_d: np.ndarray  # (N,), with the document frequencies of the references of these rows

    def scores(self, times: np.ndarray | None = None) -> np.ndarray:
        """METRICS times 100, (..., 8). ``times`` (..., N): how often each row is in the set, once by default."""
        times = np.ones(len(self.rouge_l)) if times is None else np.asarray(times, dtype=float)
        size = times.sum(-1)
        return _all(times @ self.bleu, times @ self.meteor, times @ self.rouge_l / size, times @ self.cider_d / size)

    def each(self) -> np.ndarray:
        """METRICS of each row by itself, (N, 8). The scores of the set are not their mean."""
        return _all(self.bleu, self.meteor, self.rouge_l, self.cider_d)


def _all(bleu: np.ndarray, meteor: np.ndarray, rouge_l: np.ndarray, cider_d: np.ndarray) -> np.ndarray:
    values = [*np.moveaxis(bleu_scores(bleu), -1, 0), meteor_score(meteor), rouge_l, cider_d]
    # S*m: the single number that the field uses for change captions.
    return 100 * np.stack([*values, sum(values[3:]) / 4], axis=-1)


def bleu_scores(counts: np.ndarray) -> np.ndarray:
    """(..., 10) summed counts -> (..., 4): BLEU-1 to 4, with pycocoevalcap's guards against 0/0."""
    length, reference_length, ngrams, right = counts[..., 0], counts[..., 1], counts[..., 2:6], counts[..., 6:10]
    precision = np.cumprod((right + 1e-15) / (ngrams + 1e-9), axis=-1) ** (1 / np.arange(1, 5))
    ratio = (length + 1e-15) / (reference_length + 1e-9)
    return precision * np.exp(np.minimum(1 - 1 / ratio, 0))[..., None]
