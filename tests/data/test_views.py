"""Mirrored and rotated pairs: both dates alike, with their words for places."""

import json

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Transpose

from btcchat.data.mixture import build_datasets
from btcchat.data.mixture.views import HEIGHTS, SIDES, PairViews, swapped
from btcchat.data.records import parse
from btcchat.processor import load_frames

CORNERS = {"top left": (0, 0), "top right": (0, 1), "bottom left": (1, 0), "bottom right": (1, 1)}


@pytest.mark.parametrize(
    ("text", "mirrored", "flipped"),
    [
        ("villas at the lower-right corner", "villas at the lower-left corner", "villas at the upper-right corner"),
        ("topleft trees", "topright trees", "bottomleft trees"),
        ("In the Northwestern part", "In the Northeastern part", "In the Southwestern part"),
        ("Left of the road, above it", "Right of the road, above it", "Left of the road, below it"),
        ("two houses show up on the rightmost side", "two houses show up on the leftmost side", None),
        ("a bright stop sign, a lowered copyright, a topping", None, None),
    ],
)  # fmt: skip
def test_words_for_places_are_swapped(text, mirrored, flipped):
    assert swapped(text, SIDES) == (mirrored or text)
    assert swapped(text, HEIGHTS) == (flipped or text)
    assert swapped(swapped(text, SIDES | HEIGHTS), SIDES | HEIGHTS) == text


def corner_pair(folder, corner: str, *, answer: str, **keys) -> dict:
    """Grey before, with a white corner after."""
    row, column = CORNERS[corner]
    after = np.full((8, 8, 3), 90, np.uint8)
    after[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 255
    for date, image in (("before", np.full_like(after, 90)), ("after", after)):
        image[0, 0] = 7  # a mark that identifies a view
        Image.fromarray(image).save(folder / f"{date}.png")
    talk = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": answer}]
    return {"modality": "pair", "images": ["before.png", "after.png"], "conversations": talk, **keys}


@pytest.mark.parametrize("corner", CORNERS)
def test_a_caption_names_the_corner_that_is_shown(tmp_path, corner):
    row = corner_pair(tmp_path, corner, answer=f"a house in the {corner} corner", clue=f"see {corner}")
    record, seen = parse(row, "here", str(tmp_path)), set()
    for number in range(40):
        shown = PairViews()(record, (0, 0, number))
        before, after = (np.asarray(one.transpose(shown.view) if shown.view is not None else one)
                         for one in load_frames("pair", shown.sources))  # fmt: skip
        assert (np.argwhere(before == 7) == np.argwhere(after == 7)).all()  # both dates alike
        y, x = np.argwhere(after[..., 0] == 255).mean(0) > 3.5
        (name,) = [name for name, place in CORNERS.items() if place == (y, x)]
        assert shown.conversations[1]["value"] == f"a house in the {name} corner"
        assert shown.clue == f"see {name}"
        seen.add(name)
    assert seen == set(CORNERS)
    assert record.conversations[1]["value"] == f"a house in the {corner} corner"


def test_quarter_turns_are_only_for_texts_without_words_for_places(tmp_path):
    for answer, turned in (("a house", True), ("a house on the left", False), ("a vertical road", False)):
        record = parse(corner_pair(tmp_path, "top left", answer=answer), "here", str(tmp_path))
        views = {PairViews()(record, (0, 0, number)).view for number in range(100)}
        assert (Transpose.ROTATE_90 in views) == turned
        assert len(views) == (8 if turned else 4)


def test_only_pairs_are_turned_and_the_first_step_is_kept(tmp_path):
    row = corner_pair(tmp_path, "top left", answer="a house") | {"modality": "series"}
    record = parse(row, "here", str(tmp_path))
    assert {PairViews()(record, (0, 0, number)).view for number in range(20)} == {None}
    calls = []
    PairViews(lambda record, draw: calls.append(draw) or record)(record, (1, 2, 3))
    assert calls == [(1, 2, 3)]


def test_a_training_sample_gets_a_new_view_in_each_epoch(tmp_path):
    from btcchat.train.train import SampleMaker
    from tests.tiny import tiny_model

    (tmp_path / "rows.jsonl").write_text(json.dumps(corner_pair(tmp_path, "top left", answer="a house top left")))
    (tmp_path / "sets.yaml").write_text("mine: {annotation: rows.jsonl, images: .}")
    maker = SampleMaker(tiny_model(tmp_path).processor)
    mixture = build_datasets("mine", maker, data_root=tmp_path, folder=tmp_path)
    plain = mixture[0, 0]
    mixture.augment = PairViews()
    epochs = [mixture[epoch, 0] for epoch in range(20)]
    flips = [[-1], [-2], [-1, -2], []]
    found = [next(f for f in flips if (one["frames"].flip(f) == plain["frames"]).all()) for one in epochs]
    assert len({tuple(flip) for flip in found}) == 4
    again = mixture[7, 0]
    assert (again["frames"] == epochs[7]["frames"]).all()
    same_text = [(one["input_ids"].tolist() == plain["input_ids"].tolist()) for one in epochs]
    assert same_text == [flip == [] for flip in found]
