"""The measure of the tiny model: an oracle gets full marks, a parrot does not."""

import json

import pytest
from tiny import tiny_model

import tiny_quality
from btcchat.synthetic import make_image, make_pair, make_series, swap
from tiny_quality import Tally, score_answer, score_caption

CHANGES = [
    {"kind": "house", "action": "built", "count": 3, "place": "top left", "step": 0, "partial": False},
    {"kind": "trees", "action": "removed", "count": 1, "place": "right", "step": 0, "partial": False},
]


def scores(changes, *captions):
    tally = Tally()
    score_caption(tally, changes, *captions)
    return {name: found["score"] for name, found in tally.scores().items()}


def test_the_reference_captions_get_full_marks():
    tally = Tally()
    for seed in range(40):
        sample = make_pair(seed, heldout=True)
        for caption, swapped in zip(sample.captions, swap(sample).captions, strict=True):
            score_caption(tally, sample.truth["changes"], caption, swapped)
    assert {name: found["score"] for name, found in tally.scores().items()} == dict.fromkeys(tally.total, 1.0)
    assert {"changed or unchanged", "type F1", "count right", "place right", "dates swapped"} <= set(tally.total)


def test_a_wrong_count_and_a_wrong_place_are_told_apart():
    caption = "two houses are built in the top left corner and the trees on the left have been cleared ."
    found = scores(CHANGES, caption)
    assert found == {
        "changed or unchanged": 1,
        "type F1": 1,
        "count right": 0.5,  # of both changes: the trees count as one
        "count right, houses": 0,
        "place right": 0.5,
    }


def test_a_change_made_up_and_one_left_out_lower_the_type_f1():
    caption = "three houses are built in the top left corner and a pond is dug on the right ."
    assert scores(CHANGES, caption)["type F1"] == pytest.approx(0.5)  # 1 right, 1 wrong, 1 missing


def test_built_for_removed_is_a_wrong_type():
    assert scores(CHANGES[:1], "three houses are demolished in the top left corner .")["type F1"] == 0


def test_a_caption_that_ignores_the_order_of_dates_fails_the_swap():
    caption = "three houses are built in the top left corner ."
    assert scores(CHANGES[:1], caption, caption)["dates swapped"] == 0
    assert scores(CHANGES[:1], caption, "three houses are demolished in the top left corner .")["dates swapped"] == 1


def test_saying_that_nothing_changed_is_right_only_where_nothing_did():
    same = "the scene is the same as before ."
    assert scores([], same) == {"changed or unchanged": 1}
    assert scores(CHANGES, same) == {"changed or unchanged": 0, "type F1": 0}


def test_answers_match_but_for_case_stops_and_spaces():
    tally = Tally()
    score_answer(tally, "image", "How many houses are there?", " Three.", "three")
    score_answer(tally, "image", "How many houses are there?", "four", "three")
    score_answer(tally, "image", "Is there a pond?", "yes", "yes")
    found = tally.scores()
    assert found["image questions"] == {"score": pytest.approx(2 / 3), "n": 3, "most frequent": 1}
    assert found["image questions, how many"]["score"] == 0.5


@pytest.mark.parametrize("make", [make_image, make_pair, make_series])
def test_every_question_of_a_sample_has_a_kind(make):
    kinds = {tiny_quality.question_kind(q) for seed in range(20) for q, _ in make(seed, heldout=True).questions}
    assert {"yes or no", "what"} < kinds
    sample = make(3, heldout=True)
    for question, answer in sample.questions:
        assert (answer in ("yes", "no")) == (tiny_quality.question_kind(question) == "yes or no")


def test_claims_are_held_against_the_references():
    right, wrong = Tally(), Tally()
    for seed in range(40):
        sample = make_pair(seed, heldout=True)
        right.captions.append((sample.captions[0], sample.captions))
        wrong.captions.append((swap(sample).captions[0], sample.captions))
    assert right.scores()["claims: direction"] == {"score": 1, "n": 40}
    assert wrong.scores()["claims: direction"]["score"] < 0.3


def test_the_command_measures_two_models_and_writes_json(tmp_path, capsys):
    for name in ("one", "two"):
        tiny_model(tmp_path / "tokenizer", num_video_frames=4).save_pretrained(tmp_path / name)
    out = tmp_path / "scores.json"
    folders = [f"one={tmp_path / 'one'}", f"two={tmp_path / 'two'}"]
    assert tiny_quality.main([*folders, "--samples", "4", "--tasks", "image", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "| image questions" in printed and "| one" in printed
    written = json.loads(out.read_text())["models"]
    assert written["one"] == written["two"], "the same model twice sees the same samples"
    assert written["one"]["image questions"]["n"] == 4
