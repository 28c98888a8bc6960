"""The model's work on a batch of tiles, the same in every engine: pixels in, rows out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from btcchat.geo.job import Pair, TilePixels
from btcchat.geo.pair_model import PairModel, Question
from btcchat.geo.rows import DONE, FAILED, SKIPPED, PairRow, TileRow, left_out, pack_mask, pack_patches, unpack_patches


@dataclass
class TileWork:
    """``work(tiles)`` returns their rows. pairs: the dates to caption. questions: asked about all dates of a tile.

    settings: the hash stored in each row. model: None if it is sent to workers, which load their own.
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
            seen = self.model.see([frames for _, frames in shown])
            found = self.model.distances(seen, self.pairs)
            for (tile, _), distances in zip(shown, found, strict=True):
                assert tile.valid is not None  # it has frames
                rows[tile.number]["pairs"] = [self._pair(tile.valid, patches) for patches in distances]
            self._answer(seen, [rows[tile.number] for tile, _ in shown], len(shown[0][1]))
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

    def _answer(self, seen: Any, rows: Sequence[TileRow], dates: int) -> None:
        """Caption all pairs of the tiles and answer the questions, in one batch."""
        questions: list[Question] = []
        places: list[tuple[TileRow, int]] = []  # a row, and the number of its pair, or -1 for an answer
        for tile, row in enumerate(rows):
            row["answers"] = []
            if self.min_change is not None and max(pair["change"] for pair in row["pairs"]) < self.min_change:
                continue
            questions += [Question(tile, pair, None) for pair in self.pairs]
            places += [(row, number) for number in range(len(self.pairs))]
            questions += [Question(tile, range(dates), text) for text in self.questions]
            places += [(row, -1)] * len(self.questions)
        if not questions or self.model is None:
            return
        for (row, number), text in zip(places, self.model.answers(seen, questions), strict=True):
            if number < 0:
                row["answers"].append(text)
            else:
                row["pairs"][number]["caption"] = text


def map_of(patches: str, side: int) -> np.ndarray:
    """The change map of a tile, float32 (side, side) in 0..1."""
    import torch

    from btcchat.change_encoder.change_map import at_size

    return at_size(torch.from_numpy(unpack_patches(patches)), side, side, padded=False)
