"""The real model on a batch of tiles: one pass of the vision tower, and the answers of single tiles."""

import numpy as np
import pytest
from PIL import Image

from btcchat.decoding.options import GenerationOptions
from btcchat.geo.answering import TileWork
from btcchat.geo.job import TilePixels, date_pairs
from btcchat.geo.pair_model import BTCChatPairs
from btcchat.geo.rows import unpack_patches
from btcchat.processor import request
from btcchat.synthetic import make_pair

OPTIONS = GenerationOptions(max_new_tokens=12)
QUESTION = "How many buildings are there?"


def tiles(dates: int) -> list[TilePixels]:
    pictures = [make_pair(seed, heldout=True).images for seed in (4, 1, 7, 9, 10)]
    frames = [Image.fromarray(picture) for pair in pictures for picture in pair]
    return [TilePixels(n, frames[n * dates : (n + 1) * dates], np.ones((256, 256), bool)) for n in range(3)]


@pytest.mark.parametrize(("dates", "min_change"), [(2, None), (3, None), (2, 0.02)])
def test_each_date_is_seen_once_and_rows_equal_the_model_on_single_tiles(tiny, dates, min_change):
    seen: list[int] = []
    hook = tiny.vision_tower.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    shown, pairs = tiles(dates), date_pairs(dates)
    rows = TileWork(BTCChatPairs(tiny, OPTIONS), pairs, 0.2, min_change, (QUESTION,), "s")(shown)
    hook.remove()
    assert seen == [3 * dates]
    asked = [row for row in rows if min_change is None or row["pairs"][0]["change"] >= min_change]
    assert len(asked) == (3 if min_change is None else 2)
    for row, tile in zip(rows, shown, strict=True):
        for pair, (before, after) in zip(row["pairs"], pairs, strict=True):
            frames = [tile.frames[before], tile.frames[after]]
            found = tiny.distances(tiny.see(tiny.processor.pixels(frames)))[0].detach().numpy()
            np.testing.assert_allclose(unpack_patches(pair["patches"]), found, atol=1e-3)
            assert pair["caption"] == (tiny.caption(*frames, max_new_tokens=12) if row in asked else None)
        answer = tiny.answer([request(QUESTION, "pair" if dates == 2 else "series", tile.frames)], OPTIONS)
        assert row["answers"] == (answer if row in asked else [])
