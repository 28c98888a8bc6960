"""What is asked of a model about tiles, and the model that answers: the dates of a tile are seen once."""

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


class Asked(NamedTuple):
    """A question about 2 or more dates of a tile; None asks for a caption. tile: its place in the batch."""

    tile: int
    dates: Sequence[int]
    question: str | None


class PairModel(Protocol):
    """What is asked of a model. `BTCChatPairs` is the real one; tests and benchmarks have a stub."""

    def see(self, dates: Sequence[Frames]) -> Any:
        """The dates of T tiles, once -> what the other methods are given."""

    def distances(self, seen: Any, pairs: Sequence[Pair]) -> np.ndarray:
        """(T, P, g, g): how far the pairs are apart at each patch, 0 to 1."""

    def answers(self, seen: Any, asked: Sequence[Asked]) -> list[str]:
        """An answer to each question."""


@dataclass(frozen=True)
class SeenTiles:
    """T tiles of D dates. pixels: uint8 (T * D, 3, H, W). depths: what the vision tower gave, S x (T * D, L, C)."""

    tiles: int
    dates: int
    pixels: "Tensor"
    depths: "Sequence[Tensor]"

    def rows(self, tile: int, dates: Sequence[int]) -> list[int]:
        """Where these dates of a tile are in pixels and depths."""
        return [tile * self.dates + date for date in dates]


class BTCChatPairs:
    """The vision tower sees each date of a tile once, for its change maps, captions and answers."""

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

    def answers(self, seen: SeenTiles, asked: Sequence[Asked]) -> list[str]:
        from btcchat.generation import generate
        from btcchat.model import SeenBefore
        from btcchat.processor import request

        processor, caption = self.model.processor, self.model.config.caption_question
        places = [seen.rows(tile, dates) for tile, dates, _ in asked]
        samples = [
            processor(
                request(question or caption, "pair" if len(dates) == 2 else "series"), seen.pixels[rows], train=False
            )
            for (_, dates, question), rows in zip(asked, places, strict=True)
        ]
        rows = [row for one in places for row in one]
        encoder = SeenBefore([depth[rows] for depth in seen.depths])
        batch = {**processor.collate(samples), "frames": None, "encoder": encoder}
        return generate(self.model, batch, self.options)
