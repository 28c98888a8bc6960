"""Whether a pair changed, as its flag, its captions and its mask say."""

import pytest

from btcchat.data.changed import disagreement, says_no_change

SAME, NEW = "there is no difference .", "a road is built ."
CAPTIONS_FLAG, FLAG_CAPTIONS = (
    f"changed by its {a}, unchanged by its {b}" for a, b in (("captions", "change_flag"), ("change_flag", "captions"))
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
        ({"change_flag": 0, "captions": [NEW, SAME]}, None, None),  # divided captions say nothing
        ({"change_flag": 1}, False, "changed by its change_flag, unchanged by its mask"),
        ({"captions": [SAME]}, True, "changed by its mask, unchanged by its captions"),
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
def test_a_caption_may_say_not_in_either_way(text):
    assert says_no_change(text)


@pytest.mark.parametrize(
    "text", ["", "the scene", "No change in the scene, but a road is built.", "the road stays the same"]
)
def test_a_caption_that_names_a_thing_or_no_sameness_does_not_say_that_nothing_changed(text):
    assert not says_no_change(text)
