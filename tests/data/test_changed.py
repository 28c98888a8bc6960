"""Whether a pair changed according to its flag, its captions and its mask."""

import pytest

from btcchat.data.changed import disagreement, says_no_change

SAME, NEW = "there is no difference .", "a road is built ."
CAPTIONS_FLAG, FLAG_CAPTIONS = (
    f"changed according to {a}, unchanged according to {b}"
    for a, b in (("captions", "change_flag"), ("change_flag", "captions"))
)


@pytest.mark.parametrize(
    ("row", "mask", "expected"),
    [
        ({"change_flag": 1, "captions": [NEW]}, True, None),
        ({"change_flag": 0, "captions": [SAME]}, False, None),
        (
            {"change_flag": 0, "captions": [NEW, NEW, SAME]},
            None,
            CAPTIONS_FLAG,
        ),
        ({"change_flag": 0, "captions": [NEW, SAME]}, None, None),  # evenly divided captions are ignored
        ({"change_flag": 1}, False, "changed according to change_flag, unchanged according to mask"),
        ({"captions": [SAME]}, True, "changed according to mask, unchanged according to captions"),
        (
            {"truth": {"changed": True}, "captions": [SAME]},
            None,
            FLAG_CAPTIONS,
        ),
        ({"change_flag": -1, "captions": [SAME]}, None, None),  # CCExpert's "unknown"
        ({"change_flag": 0}, None, None),
        ({}, True, None),
        ({"modality": "series", "change_flag": 0}, True, None),
    ],
)
def test_a_pair_whose_data_contradict_each_other_is_found(row, mask, expected):
    assert disagreement({"modality": "pair"} | row, mask) == expected


@pytest.mark.parametrize("text", ["It hasn't changed.", "The scene has not changed", "These dates don't differ"])
def test_a_caption_may_use_not_or_its_contraction(text):
    assert says_no_change(text)


@pytest.mark.parametrize(
    "text", ["", "the scene", "No change in the scene, but a road is built.", "the road stays the same"]
)
def test_a_caption_that_names_a_thing_does_not_say_that_nothing_changed(text):
    assert not says_no_change(text)
