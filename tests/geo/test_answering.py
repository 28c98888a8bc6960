"""The model's work on tiles: scores of valid pixels, and which dates a question is about."""

import numpy as np
from PIL import Image

from btcchat.geo.answering import TileWork
from btcchat.geo.job import TilePixels, date_pairs
from btcchat.geo.rows import DONE, FAILED, SKIPPED, unpack_mask
from tests.geo.stub import StubModel


def tile(number: int, greys: tuple[int, ...], valid=None) -> TilePixels:
    """Dates of one grey level each; the left half of the last one is black."""
    frames = [np.full((64, 64, 3), grey, np.uint8) for grey in greys]
    frames[-1][:, :32] = 0
    return TilePixels(
        number, [Image.fromarray(frame) for frame in frames], np.ones((64, 64), bool) if valid is None else valid
    )


def work(model, dates: int = 2, **changes) -> TileWork:
    options = {"threshold": 0.3, "min_change": None, "questions": (), "settings": "s"} | changes
    return TileWork(model, date_pairs(dates), **options)


def test_the_score_is_the_share_of_valid_pixels_above_the_threshold():
    right = np.zeros((64, 64), bool)
    right[:, 32:] = True
    whole, half = work(StubModel())([tile(0, (200, 200)), tile(1, (200, 200), valid=right)])
    assert abs(whole["pairs"][0]["change"] - 0.5) < 0.03 and half["pairs"][0]["change"] < 0.03
    assert "mask" not in whole and (unpack_mask(half, 64) == right).all() and half["valid"] == 0.5


def test_skipped_and_failed_tiles_are_not_captioned():
    model = StubModel()
    skipped = TilePixels(1, None, np.zeros((64, 64), bool), "clouds")
    rows = work(model)([tile(0, (200, 200)), skipped, TilePixels(2, None, None, "damaged")])
    assert [(row["status"], row.get("reason")) for row in rows] == [
        (DONE, None),
        (SKIPPED, "clouds"),
        (FAILED, "damaged"),
    ]
    assert len(model.questions) == 1


def test_captions_see_two_dates_and_questions_see_all():
    model = StubModel()
    [row] = work(model, 3, questions=("When?", "What?"))([tile(0, (100, 150, 200))])
    assert [(question, len(frames)) for question, frames in model.questions] == [
        (None, 2), (None, 2), (None, 2), ("When?", 3), ("What?", 3)
    ]  # fmt: skip
    assert [pair["change"] > 0.1 for pair in row["pairs"]] == [True, False, True] and row["answers"] == [
        "When?",
        "What?",
    ]
    first = [np.asarray(frames[0])[0, 0, 0] for _, frames in model.questions[:3]]
    assert first == [100, 100, 150]
