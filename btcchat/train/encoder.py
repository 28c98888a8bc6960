"""How a batch's frames become features in training. Inference needs none of this, so it is not in the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from btcchat.model import BTCChatModel, Visible
from btcchat.train.feature_cache import FeatureCache
from btcchat.train.map_loss import change_map_loss

# Features (H, S, L, C) from the cache, and a key for each frame: None if its features are among them.
Cached: TypeAlias = tuple[Tensor | None, list[str | None]]


@dataclass
class TrainingEncoder:
    """``model(**batch, encoder=...)``; use `with_cached` for a batch with cached features.

    every_part: run every part in every step, on a blank pair if a batch has no pair. Training in several processes
    needs it: each process must take part in every exchange of gradients (and of weights, under ZeRO-3).
    tower: computes the features of a frozen tower (train.frozen_tower); None: the tower itself does.
    cache: stores those features. mask_loss: weight of the loss that trains change maps on ``changed``, (P, g, g).
    """

    every_part: bool = False
    tower: Callable[[Tensor], list[Tensor]] | None = None
    cache: FeatureCache | None = None
    mask_loss: float = 0.0
    cached: Cached | None = None  # of one batch, from `Processor.collate`, like ``changed``
    changed: Tensor | None = None

    def with_cached(self, cached: Cached | None, changed: Tensor | None = None) -> "TrainingEncoder":
        """The same encoder for a batch some of whose frames are in the cache, and whose pairs may have masks."""
        return replace(self, cached=cached, changed=changed)

    def __call__(
        self, model: BTCChatModel, frames: Tensor | None, modalities: Sequence[str], frame_counts: Sequence[int]
    ) -> Visible:
        has_pairs = any(name == "pair" or name in model.layout.change_between for name in modalities)
        if self.every_part and model.training and not has_pairs:
            return self._with_blank_pair(model, frames, modalities, frame_counts)
        if not sum(frame_counts):
            return Visible(None, [])
        depths = self._see(model, frames, self.cached)
        rows, lengths = model.segments(depths, modalities, frame_counts)
        if self.changed is None or not model.training:
            return Visible(rows, lengths)
        shown = [name for name, count in zip(modalities, frame_counts, strict=True) for _ in range(count)]
        places = torch.tensor([place for place, name in enumerate(shown) if name == "pair"])
        places = places.to(depths[0].device, non_blocking=True)
        loss = change_map_loss(model.distances([depth[places] for depth in depths]), self.changed)
        return Visible(rows, lengths, loss=self.mask_loss * loss)

    def _see(self, model: BTCChatModel, frames: Tensor | None, cached: Cached | None) -> list[Tensor]:
        """Features of all frames, the given ones and the cached ones: S x (F, L, C)."""
        tower = self.tower if self.tower is not None and model.training else model.vision_tower
        depths = None if frames is None else tower(model.pixel_values(frames))
        if cached is not None:
            assert self.cache is not None  # it made the batch's ``cached``
            return self.cache.complete(depths, *cached, model.device)
        assert depths is not None  # without a cache all frames are given
        return depths

    def _with_blank_pair(
        self, model: BTCChatModel, frames: Tensor | None, modalities: Sequence[str], frame_counts: Sequence[int]
    ) -> Visible:
        """The batch followed by a blank pair, whose features are ``unused``.

        The change encoder sees only this pair, so it runs in ``eval()``: a blank must not enter BatchNorm's statistics.
        """
        tower, cached = model.vision_tower, self.cached
        if cached is None:
            blank = torch.zeros(2, 3, tower.resolution, tower.resolution, device=model.device)
            frames = blank if frames is None else torch.cat([model.pixel_values(frames), blank])
        else:  # the tower need not run; ones, because the cosine of zeros has no gradient
            features, keys = cached
            blank = torch.ones(2, tower.num_depths, tower.num_tokens, tower.hidden_size)
            features = blank if features is None else torch.cat([features, blank.to(features)])
            cached = features, [*keys, None, None]
        trained = model.change_encoder.training
        model.change_encoder.eval()
        depths = self._see(model, frames, cached)
        rows, lengths = model.segments(depths, [*modalities, "pair"], [*frame_counts, 2])
        model.change_encoder.train(trained)
        segments = model.layout.change_segments
        own = sum(lengths[-segments:])  # rows of the blank pair
        return Visible(rows[:-own], lengths[:-segments], rows[-own:])
