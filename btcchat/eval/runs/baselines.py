"""Captions that cost nothing, to read a model's scores against: ways not to describe a pair."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from btcchat.eval.captions.changes import says_no_change
from btcchat.eval.captions.presets import clean, levir_cc
from btcchat.eval.runs.answer import batches, pixels_of, read_ahead
from btcchat.eval.runs.ranks import Ranks
from btcchat.eval.runs.samples import Sample

BATCH = 32


def most_frequent(train: Sequence[Sample]) -> dict[str, str]:
    """The most frequent caption of the train split; where that names no change, also the one that does.

    Captions that differ in letters and stops alone are counted together, and written as most of them are.
    """
    texts = [clean(text) for sample in train for text in sample.references]
    written, counts = Counter(texts), Counter(levir_cc(texts))
    spelt = {levir_cc([text])[0]: text for text, _ in reversed(written.most_common())}
    ordered = [spelt[plain] for plain in sorted(counts, key=lambda plain: (-counts[plain], plain))]
    found = {"most frequent in train": ordered[0]}
    if says_no_change(ordered[0]):
        changes = [text for text in ordered if not says_no_change(text)]
        if changes:
            found["most frequent change in train"] = changes[0]
    return found


def nearest(model, samples: Sequence[Sample], train: Sequence[Sample], ranks: Ranks) -> list[str]:
    """For each sample the first caption of its nearest training neighbour, by cosine of frozen tower features."""
    asked, known = features(model, samples, ranks), features(model, train, ranks)
    found = [int(row.argmax()) for start in range(0, len(asked), 1024) for row in asked[start : start + 1024] @ known.T]
    return [train[number].references[0] for number in found]


@torch.inference_mode()
def features(model, samples: Sequence[Sample], ranks: Ranks) -> np.ndarray:
    """(N, 3 C): mean of the tower's tokens at the first date, at the last, and of what differs, each of length 1."""
    place = {sample.id: number for number, sample in enumerate(samples)}
    mine = batches(samples, BATCH)[ranks.number :: ranks.world]
    found = {}
    for batch, pixels in zip(mine, read_ahead(lambda sample: pixels_of(model, sample), mine), strict=True):
        dates = torch.stack([one[[0, -1]] for one in pixels]).flatten(0, 1)  # (2 B, 3, H, W)
        tokens = model.vision_tower(dates.to(model.device))[-1].float().unflatten(0, (-1, 2))  # (B, 2, L, C)
        parts = tokens[:, 0].mean(1), tokens[:, 1].mean(1), (tokens[:, 1] - tokens[:, 0]).abs().mean(1)  # 3 x (B, C)
        joined = torch.cat([F.normalize(part, dim=-1) for part in parts], dim=-1).cpu().numpy()
        found |= zip((place[sample.id] for sample in batch), joined, strict=True)
    found = {number: row for part in ranks.gather(found) for number, row in part.items()}
    return np.stack([found[number] for number in range(len(samples))])
