"""The per-tile work of the model, the same in every engine: tiles as pixels in, rows out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from btcchat.decoding.options import GenerationOptions
from btcchat.geo.job import Pair, TilePixels
from btcchat.geo.rows import DONE, FAILED, SKIPPED, PairRow, TileRow, left_out, pack_mask, pack_patches, unpack_patches

if TYPE_CHECKING:
    from btcchat.api import BTCChat

Frames = list[Image.Image]


class PairModel(Protocol):
    """What is asked of a model. `BTCChatPairs` is the real one; tests and benchmarks have a stub."""

    def distances(self, dates: Sequence[Frames], pairs: Sequence[Pair]) -> np.ndarray:
        """The dates of T tiles -> (T, P, g, g): how far the pairs are apart at each patch, 0 to 1."""

    def answers(self, requested: Sequence[tuple[str | None, Frames]]) -> list[str]:
        """Answers to questions about 2 or more dates; None asks for a caption."""


class BTCChatPairs:
    def __init__(self, model: "BTCChat", options: GenerationOptions) -> None:
        self.model, self.options = model, options

    def distances(self, dates: Sequence[Frames], pairs: Sequence[Pair]) -> np.ndarray:
        """One pass of the vision tower over all dates of all tiles."""
        import torch

        model, count = self.model, len(dates[0])
        with torch.inference_mode():
            pixels = model.processor.pixels([frame for frames in dates for frame in frames])
            depths = model.see(pixels)  # S x (T * dates, L, C)
            order = [tile * count + date for tile in range(len(dates)) for pair in pairs for date in pair]
            found = model.distances([depth[order] for depth in depths])  # (T * P, g, g)
        array: np.ndarray = found.float().unflatten(0, (len(dates), len(pairs))).cpu().numpy()
        return array

    def answers(self, requested: Sequence[tuple[str | None, Frames]]) -> list[str]:
        from btcchat.processor import request

        caption = self.model.config.caption_question
        records = [
            request(question or caption, "pair" if len(frames) == 2 else "series", frames)
            for question, frames in requested
        ]
        return self.model.answer(records, self.options)


@dataclass
class TileWork:
    """``work(tiles)`` -> their rows. pairs: those that are captioned; questions are about all dates of a tile.

    settings: the hash that each row has. model: None in what is sent to workers, which load their own.
    """

    model: PairModel | None
    pairs: Sequence[Pair]
    threshold: float
    min_change: float | None
    questions: Sequence[str]
    settings: str

    def __call__(self, tiles: Sequence[TilePixels]) -> list[TileRow]:
        shown = [(tile, tile.frames) for tile in tiles if tile.frames is not None]
        rows = {tile.number: self._row(tile) for tile in tiles}
        if shown:
            assert self.model is not None
            found = self.model.distances([frames for _, frames in shown], self.pairs)
            for (tile, _), distances in zip(shown, found, strict=True):
                assert tile.valid is not None  # it has frames
                rows[tile.number]["pairs"] = [self._pair(tile.valid, patches) for patches in distances]
            self._answer(rows, shown)
        return list(rows.values())

    def _row(self, tile: TilePixels) -> TileRow:
        if tile.frames is None or tile.valid is None:
            return left_out(tile.number, self.settings, FAILED if tile.failed else SKIPPED, tile.reason, tile.valid)
        row: TileRow = {"tile": tile.number, "settings": self.settings, "status": DONE, "reason": None}
        row["valid"] = round(float(tile.valid.mean()), 4)
        if not tile.valid.all():
            row["mask"] = pack_mask(tile.valid)
        return row

    def _pair(self, valid: np.ndarray, distances: np.ndarray) -> PairRow:
        patches = pack_patches(distances)
        change = map_of(patches, len(valid))
        score = round(float((change[valid] > self.threshold).mean()), 4)
        return {"change": score, "patches": patches, "caption": None}

    def _answer(self, rows: dict[int, TileRow], shown: Sequence[tuple[TilePixels, Frames]]) -> None:
        """Captions of all pairs of the tiles and answers to the questions, in one batch."""
        requested: list[tuple[str | None, Frames]] = []
        places: list[tuple[TileRow, int]] = []  # a row, and the number of its pair, or -1 for an answer
        for tile, frames in shown:
            row = rows[tile.number]
            row["answers"] = []
            if self.min_change is not None and max(pair["change"] for pair in row["pairs"]) < self.min_change:
                continue
            for number, (first, second) in enumerate(self.pairs):
                requested.append((None, [frames[first], frames[second]]))
                places.append((row, number))
            requested += [(question, frames) for question in self.questions]
            places += [(row, -1)] * len(self.questions)
        if not requested or self.model is None:
            return
        for (row, number), text in zip(places, self.model.answers(requested), strict=True):
            if number < 0:
                row["answers"].append(text)
            else:
                row["pairs"][number]["caption"] = text


def map_of(patches: str, side: int) -> np.ndarray:
    """The change map of a tile, float32 (side, side) in 0..1."""
    import torch

    from btcchat.change_encoder.change_map import at_size

    return at_size(torch.from_numpy(unpack_patches(patches)), side, side, padded=False)
