"""Change maps and answers for a batch of tiles; the vision tower sees each date of a tile once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from btcchat.decoding.options import GenerationOptions
from btcchat.geo.job import Pair

if TYPE_CHECKING:
    from torch import Tensor

    from btcchat.api import BTCChat

Frames = list[Image.Image]


class Question(NamedTuple):
    """A question about two or more dates of a tile. tile: its place in the batch. text: None asks for a caption."""

    tile: int
    dates: Sequence[int]
    text: str | None


class PairModel(Protocol):
    """The interface of a model. `BTCChatPairs` is the real one; tests and benchmarks use a stub."""

    def see(self, dates: Sequence[Frames]) -> Any:
        """Look at the dates of T tiles. The other two methods take the result as ``seen``."""

    def distances(self, seen: Any, pairs: Sequence[Pair]) -> np.ndarray:
        """How different the dates of each pair are at each patch, 0 to 1: (T, P, g, g)."""

    def answers(self, seen: Any, questions: Sequence[Question]) -> list[str]:
        """One answer to each question."""


@dataclass(frozen=True)
class SeenTiles:
    """T tiles of D dates. pixels: uint8 (T * D, 3, H, W). depths: the vision tower's features, S x (T * D, L, C)."""

    tiles: int
    dates: int
    pixels: "Tensor"
    depths: "Sequence[Tensor]"

    def rows(self, tile: int, dates: Sequence[int]) -> list[int]:
        """The rows of these dates of a tile in pixels and depths."""
        return [tile * self.dates + date for date in dates]


class BTCChatPairs:
    """A loaded model; its change maps, captions and answers share one pass of the vision tower."""

    def __init__(self, model: "BTCChat", options: GenerationOptions) -> None:
        self.model, self.options = model, options

    def see(self, dates: Sequence[Frames]) -> SeenTiles:
        import torch

        pixels = self.model.processor.pixels([frame for frames in dates for frame in frames])
        with torch.no_grad():
            return SeenTiles(len(dates), len(dates[0]), pixels, self.model.see(pixels))

    def distances(self, seen: SeenTiles, pairs: Sequence[Pair]) -> np.ndarray:
        import torch

        rows = [row for tile in range(seen.tiles) for pair in pairs for row in seen.rows(tile, pair)]
        with torch.no_grad():
            found = self.model.distances([depth[rows] for depth in seen.depths])  # (T * P, g, g)
        array: np.ndarray = found.float().unflatten(0, (seen.tiles, len(pairs))).cpu().numpy()
        return array

    def answers(self, seen: SeenTiles, questions: Sequence[Question]) -> list[str]:
        from btcchat.generation import generate
        from btcchat.model import SeenBefore
        from btcchat.processor import request

        processor, caption = self.model.processor, self.model.config.caption_question
        places = [seen.rows(tile, dates) for tile, dates, _ in questions]
        samples = [
            processor(request(text or caption, "pair" if len(dates) == 2 else "series"), seen.pixels[rows], train=False)
            for (_, dates, text), rows in zip(questions, places, strict=True)
        ]
        rows = [row for one in places for row in one]
        encoder = SeenBefore([depth[rows] for depth in seen.depths])
        batch = {**processor.collate(samples), "frames": None, "encoder": encoder}
        return generate(self.model, batch, self.options)
