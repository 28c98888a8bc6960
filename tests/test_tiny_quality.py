"""The measure of the tiny model: an oracle gets full marks, a parrot does not."""

import json

import numpy as np
import pytest
from tiny import tiny_model

import tiny_quality
from btcchat.synthetic import make_pair, swap
from btcchat.synthetic.answers import plain_caption
from btcchat.synthetic.unknown import unknown
from tiny_tally import Tally, changes_named, refuses, report, score_answer, score_caption, score_map

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
    score_answer(tally, "image", "count", "three", " Three.")
    score_answer(tally, "image", "count", "three", "four")
    score_answer(tally, "image", "any", "yes", "yes")
    found = tally.scores()
    assert found["image questions"] == {"score": pytest.approx(2 / 3), "n": 3, "most frequent": 1}
    assert found["image questions, count"]["score"] == 0.5


def test_an_unseen_wording_may_be_three_points_behind_a_trained_one():
    tally = Tally()
    for number in range(100):
        score_answer(tally, "image", "any", "yes", "yes" if number < 95 else "no", trained="yes")
        score_answer(tally, "image", "none", "yes", "yes" if number < 98 else "no", trained="yes")
    rows = {line.split("|")[1].strip(): line for line in report({"one": tally.scores()}).splitlines()}
    assert "| 1.000 missed " in rows["- any"] and "| 1.000 met " in rows["- none"]


def test_a_refusal_of_an_answerable_question_is_counted_and_its_goal_is_a_limit():
    tally = Tally()
    for number in range(100):
        score_answer(tally, "pair", "was", "yes", unknown()["answer"] if number < 3 else "yes")
    assert tally.scores()["answerable questions refused"]["score"] == pytest.approx(0.03)
    assert "| 0.030 missed |" in report({"one": tally.scores()})
    assert refuses(unknown()["answer"]) and not refuses("no")


def test_the_changes_of_a_plain_caption_are_read_back_whole():
    for seed in range(60):
        changes = make_pair(seed).truth["changes"]  # in reading order
        assert changes_named(plain_caption(changes)) == changes
    assert changes_named("a house was built .") is None, "it does not say where"


def test_the_iou_of_maps_is_over_all_pixels():
    tally, mask = Tally(), np.array([[True, True, False, False]])
    score_map(tally, np.array([[0.9, 0.1, 0.9, 0.1]]), mask, 0.5)  # 1 of 3
    score_map(tally, np.array([[0.9, 0.9, 0.1, 0.1]]), mask, 0.5)  # 2 of 2
    assert tally.scores()["change map IoU"]["score"] == pytest.approx(3 / 5)


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
    assert tiny_quality.main([*folders, "--samples", "4", "--tasks", "image", "unknown", "map", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "| image questions" in printed and "| one" in printed
    written = json.loads(out.read_text())["models"]
    assert written["one"] == written["two"], "the same model twice sees the same samples"
    assert written["one"]["image questions"]["n"] == written["one"]["answerable questions refused"]["n"] == 4
    assert {"unanswerable questions refused", "change map IoU"} <= set(written["one"])


class Oracle:
    """Answers as one caption does that is wrong about the pair."""

    def answer(self, records, options):
        return ["on the left three houses were built ."] * len(records)


def test_consistency_is_with_the_caption_and_not_with_the_truth():
    tally = Tally()
    tiny_quality.consistency(Oracle(), tally, [make_pair(seed) for seed in range(3)], [], questions=99)
    asked = tally.total["consistent with the caption"]
    assert tally.right["consistent with the caption"] == 3 < asked, "only `what` is answered so"
