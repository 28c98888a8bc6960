"""Before the first step: rows whose text does not fit their frames and missing files are found."""

import json

import pytest

from btcchat.data.check.before import check_before
from btcchat.data.mixture import build_datasets
from btcchat.errors import BTCChatError
from tests.data.test_formats import shard

QUESTION, ANSWER = {"from": "human", "value": "<image>\nWhat is new?"}, {"from": "gpt", "value": "a house"}
PLAIN = QUESTION | {"value": "What is new?"}
TWO = QUESTION | {"value": "<image><image>\nWhat is new?"}
THREE = QUESTION | {"value": "<image><image><image>\nWhat is new?"}
GOOD = [
    {"modality": "pair", "images": ["a.png", "b.png"], "captions": ["a house", "one house"]},
    {"modality": "pair", "images": ["a.png", "b.png"], "conversations": [ANSWER, TWO, ANSWER]},
    {"modality": "series", "images": ["a.png"] * 3, "conversations": [THREE, ANSWER]},
    {"modality": "video", "video": "clip"},
    {"modality": "video", "video": ["a.png"] * 3, "conversations": [TWO, ANSWER]},  # the model gets two of them
    {"modality": "video", "video": "b.mp4", "conversations": [THREE, ANSWER]},  # with an unknown number of frames
    {"modality": "text", "conversations": [PLAIN, ANSWER]},
]


@pytest.fixture
def built(tmp_path):
    """``built("rows", rows)``: the mixture of a set with these rows after the good ones."""
    (tmp_path / "clip").mkdir()
    for name in ("a.png", "b.png", "b.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "sets.yaml").write_text("rows: {annotation: rows.jsonl}\ntar: {annotation: a.tar}")

    def go(mixture: str, *more: dict):
        rows = [{"conversations": [QUESTION, ANSWER]} | row for row in [*GOOD, *more]]
        (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        shard(tmp_path / "a.tar", [{"json": rows[-1]}])
        return build_datasets(mixture, dict, data_root=tmp_path, folder=tmp_path)

    return go


def test_good_rows_pass(built, maker):
    check_before(built("rows+rows@random_choice*2+rows@flatten_list"), maker)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"modality": "image", "image": "a.png", "conversations": [TWO, ANSWER]}, "2 <image> in the conversation"),
        ({"modality": "pair", "images": ["a.png"] * 2, "conversations": [THREE, ANSWER]}, "3 <image>"),
        ({"modality": "series", "images": ["a.png"] * 5, "conversations": [TWO, ANSWER]}, "2 <image>"),
        ({"modality": "video", "video": ["a.png"] * 3, "conversations": [THREE, ANSWER]}, "3 <image>"),
        ({"modality": "text"}, "<image> in turn 1, but the record has no image"),
        ({"modality": "text", "conversations": [PLAIN, ANSWER | {"value": "a <video>"}]}, "'<video>' in turn 2 is not"),
        (
            {
                "modality": "series",
                "images": ["a.png"] * 3,
                "conversations": [QUESTION | {"value": "<video>\nQ"}, ANSWER],
            },
            "'<video>' in turn 1 is not a placeholder here; write <image>",
        ),
        ({"modality": "pair", "images": ["a.png", "none.png"]}, "image '.*none.png' not found"),
        ({"modality": "video", "video": "none.mp4"}, "video '.*none.mp4' not found"),
    ],
)
@pytest.mark.parametrize("mixture", ["rows", "rows+tar"])
def test_a_bad_row_is_named(built, maker, row, message, mixture):
    with pytest.raises(BTCChatError, match=f"^rows.jsonl row 8: {message}"):
        check_before(built(mixture, row), maker)


def test_captions_that_are_not_an_answer_are_named_if_they_are_used(built, maker):
    row = {"modality": "text", "conversations": [PLAIN, ANSWER], "captions": ["b house"]}
    check_before(built("rows", row), maker)
    with pytest.raises(BTCChatError, match="^rows.jsonl row 8: no answer is one of its 'captions'"):
        check_before(built("rows@random_choice", row), maker)


def test_only_files_of_used_rows_are_checked(built, maker):
    rows = {"modality": "image", "image": "none.png"}, {"modality": "image", "image": "a.png"}
    for sampling in ("first:7", "end:1"):
        mixture = built(f"rows@{sampling}", *rows)
        check_before(mixture, maker)
        assert mixture.record(0).modality == {"first:7": "pair", "end:1": "image"}[sampling]  # rows are found as before
    with pytest.raises(BTCChatError, match="row 8"):
        check_before(built("rows@end:2", *rows), maker)
