"""Baselines for a model's scores: captions that ignore the pair, or copy those of similar pairs."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from btcchat.data.changed import says_no_change
from btcchat.eval.captions.presets import clean, levir_cc
from btcchat.eval.runs.ranks import Ranks
from btcchat.eval.runs.samples import Sample
from btcchat.eval.runs.sweep import Seen
from btcchat.model import BTCChatModel


def most_frequent(train: Sequence[Sample]) -> dict[str, str]:
    """The most frequent caption of the train split and, if it mentions no change, the most frequent one that does.

    Captions that differ only in case and punctuation are counted together, and written in the most common form.
    """
    texts = [clean(text) for sample in train for text in sample.references]
    written, counts = Counter(texts), Counter(levir_cc(texts))
    spelt = {levir_cc([text])[0]: text for text, _ in reversed(written.most_common())}
    ordered = [spelt[plain] for plain in sorted(counts, key=lambda plain: (-counts[plain], plain))]
    captions = {"most frequent in train": ordered[0]}
    if says_no_change(ordered[0]):
        changes = [text for text in ordered if not says_no_change(text)]
        if changes:
            captions["most frequent change in train"] = changes[0]
    return captions


def nearest(features: np.ndarray, train_features: np.ndarray, train: Sequence[Sample]) -> list[str]:
    """For each row of ``features``, the first caption of the nearest training pair, by cosine of tower features."""
    chunks = (features[start : start + 1024] for start in range(0, len(features), 1024))
    neighbours = [int(row.argmax()) for chunk in chunks for row in chunk @ train_features.T]
    return [train[number].references[0] for number in neighbours]


class TowerFeatures:
    """Features of each sample, (3 C,): mean tower tokens of the first date, of the last, and their difference, each
    normalised to length 1."""

    def __init__(self, samples: Sequence[Sample]):
        self.ids = [sample.id for sample in samples]
        self._missing = set(self.ids)
        self._features: dict[str, np.ndarray] = {}

    def wants(self, sample: Sample) -> bool:
        return sample.id in self._missing

    def take(self, model: BTCChatModel, seen: Seen) -> None:
        for number, sample in enumerate(seen.samples):
            if sample.id not in self._missing:
                continue
            tokens = seen.depths_of([number])[-1].float()  # (T, L, C)
            before, after = tokens[0], tokens[-1]
            parts = before.mean(0), after.mean(0), (after - before).abs().mean(0)  # 3 x (C,)
            self._features[sample.id] = torch.cat([F.normalize(part, dim=-1) for part in parts]).cpu().numpy()
            self._missing.discard(sample.id)

    def gathered(self, ranks: Ranks) -> np.ndarray:
        """The features from all processes in the order of the samples, (N, 3 C)."""
        rows = {name: row for part in ranks.gather(self._features) for name, row in part.items()}
        return np.stack([rows[name] for name in self.ids])
