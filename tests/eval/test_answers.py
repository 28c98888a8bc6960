"""Short answers: what counts as right, accuracy by type, the confusion matrix."""

import pytest

from btcchat.eval.answers.answers import (
    RANGES,
    UNKNOWN,
    class_scores,
    class_text,
    named,
    normalise,
    question_scores,
    question_type,
    same,
)


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        (" The NVG_surface. ", "nvg surface"),
        ("Twelve", "12"),
        ("1,024 m²", "1024 m2"),
        ("20_to_30", "20 to 30"),
        ("2.5 %", "2.5 %"),
        ("a low-vegetation area", "low vegetation area"),
        ("", ""),
        ("The A.", "the a"),
    ],
)
def test_answers_are_normalised_as_documented(written, plain):
    assert normalise(written) == plain


def test_yes_and_no_are_the_first_word():
    assert same("No, there is none.", "no") and same("Yes", "yes")
    assert not same("There is no road", "no") and not same("", "no")
    assert not same("no buildings", "none")


def test_a_letter_is_an_answer():
    assert same("a", "A") and not same("", "A") and not same("the", "A") and not same("B", "A")


def test_counts_are_compared_by_range_only_for_data_sets_that_use_ranges():
    assert same("7", "3", ranges=True) and same("Ten", "1", ranges=True) and not same("7", "3")
    for said, truth in (("0", "1"), ("10", "11"), ("100", "101"), ("1000", "1001"), ("many", "3")):
        assert not same(said, truth, ranges=True)
    assert same("2000", "900000", ranges=True)


def test_areas_of_rsvqa_hr_are_compared_by_range_but_its_counts_are_not():
    for said, truth in (("7m2", "10m2"), ("11 m²", "100m2"), ("0m2", "0m2"), ("1,001", "23456m2")):
        assert same(said, truth, ranges=True), said
    for said, truth in (("0m2", "1m2"), ("10m2", "11m2"), ("1000m2", "1001m2"), ("large", "5m2")):
        assert not same(said, truth, ranges=True), said
    scores = question_scores(["7m2", "4"], ["3m2", "5"], ["area", "count"], ranges=RANGES["rsvqa_hr"])
    assert scores["area"] == {"questions": 1, "accuracy": 100, "most frequent": 100}
    assert scores["count"]["accuracy"] == 0


def test_accuracy_is_by_type_and_over_all():
    said = ["yes", "no", "rural", "5", "12", "no"]
    truths = ["yes", "yes", "rural", "9", "11", "no"]
    types = [question_type(t, "") for t in ("presence", "presence", "rural_urban", "count", "count", "comp")]
    scores = question_scores(said, truths, types, ranges="count")
    assert {kind: row["accuracy"] for kind, row in scores.items()} == pytest.approx(
        {
            "presence": 50, "rural/urban": 100, "count": 100, "comparison": 100, "overall": 500 / 6, "average": 87.5,
            "overall without count": 75, "average without count": 250 / 3,
        }
    )  # fmt: skip
    assert scores["presence"] == {"questions": 2, "accuracy": 50, "most frequent": 100}
    assert scores["count"]["most frequent"] == 50  # 9 and 11 are in two ranges
    exact = question_scores(said, truths, types)
    assert exact["count"]["accuracy"] == 0


def test_questions_without_a_type_go_by_their_answer():
    assert [question_type(None, truth) for truth in ("No", "three", "airport")] == ["yes/no", "number", "other"]


def test_a_class_is_not_named_by_a_longer_class_name_that_contains_it():
    names = ["earthquake", "post earthquake", "flood"]
    assert named("It shows post-earthquake damage", names) == "post earthquake"
    assert named("It is an earthquake .", names) == "earthquake"
    assert named("an earthquake or a flood", names) == UNKNOWN


def test_a_class_is_named_alone_or_in_a_sentence():
    truths = ["fire", "traffic collision", "traffic congestion", "fire", "fire", "post earthquake", "flood"]
    said = ["Fire.", "a TrafficCollision", "It is a traffic congestion", "fire or flood", "no idea", "post-earthquake"]
    scores = class_scores([*said, "an earthquake"], truths)
    table = scores["confusion"]
    assert table["fire"]["fire"] == 1 and table["fire"][UNKNOWN] == 2  # two classes, none
    assert table["traffic collision"]["traffic collision"] == 1  # as the data write it
    assert table["traffic congestion"]["traffic congestion"] == table["post earthquake"]["post earthquake"] == 1
    assert scores["accuracy"] == pytest.approx(400 / 7) and scores["most frequent"] == pytest.approx(300 / 7)
    assert scores["recall"]["fire"] == pytest.approx(100 / 3)
    assert "overall accuracy 57.14 % of 7" in class_text(scores)


def test_a_confusion_matrix_has_a_column_for_each_class():
    scores = class_scores(["fire", "flood", "no idea"], ["fire", "flood", "flood"])
    head, *lines = class_text(scores).splitlines()[2:]
    assert head.split() == ["is,", "said", "1", "2", "3"]
    assert [line.split() for line in lines] == [
        ["1", "fire", "1", ".", "."],
        ["2", "flood", ".", "1", "1"],
        ["3", UNKNOWN[:3], UNKNOWN[4:]],
    ]
