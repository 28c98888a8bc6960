"""The claims found in captions, and how they are counted."""

import pytest

from btcchat.eval.captions.factuality import facts, factuality, factuality_text

UP, DOWN = "appears", "disappears"
DIRECTIONS = {
    "Two houses are built along the road at the top left.": {("building", UP)},
    "The trees are cut down.": {("trees", DOWN)},
    "A road with houses alongside replaces the trees.": {("road", UP), ("building", UP), ("trees", DOWN)},
    "Several villas have been constructed to replace some vegetation.": {("building", UP), ("trees", DOWN)},
    "The desert is replaced by newly built houses and a road.": {("bare land", DOWN), ("building", UP), ("road", UP)},
    "A forest is built into residential areas and roads.": {("trees", DOWN), ("building", UP), ("road", UP)},
    "The woods become more lively and a house appears on the left.": {("building", UP)},
    "Some trees have been removed and a house is built next to a road.": {("trees", DOWN), ("building", UP)},
    "Part of the trees disappear and the road and some houses appear above.": {
        ("trees", DOWN), ("road", UP), ("building", UP)
    },
    "houses replace the trees and a road appears": {("building", UP), ("trees", DOWN), ("road", UP)},
    "a road is built and some houses": {("road", UP), ("building", UP)},
    "many houses are built near the forest and the lake": {("building", UP)},
    "at the top of the scene some buildings appeared": {("building", UP)},
    "some buildings appear at the corner of the road": {("building", UP)},
    "New houses on the left": {("building", UP)},
    "the warehouse makes way for a parking lot": {("building", DOWN), ("parking lot", UP)},
    "houses and roads": set(),
    "the scene is the same as before .": set(),
    "": set(),
}  # fmt: skip


@pytest.mark.parametrize("caption", DIRECTIONS)
def test_what_appears_and_disappears_is_read(caption):
    assert facts(caption)["direction"] == DIRECTIONS[caption]


def test_objects_counts_and_places_are_read():
    claims = facts("Three villas and several trees are on both sides of the road in the upper left corner.")
    assert claims["objects"] == {"building", "trees", "road"}
    assert claims["counts"] == {("building", "3"), ("trees", "some")}
    assert claims["places"] == {"both sides", "top", "left", "corner"}
    assert facts("rows of houses and 12 cars are by the road")["counts"] == {("building", "many"), ("vehicle", "12")}
    assert facts("a playground and a parking lot")["objects"] == {"sports field", "parking lot"}


def test_a_claim_is_right_where_any_reference_makes_it():
    references = ["a house is built", "two trees are removed"]
    scores = factuality(["a house is built and a road appears"], [references])
    assert scores["objects"] == pytest.approx({"precision": 50, "recall": 50, "F1": 50})
    scores = factuality(["the scene is the same as before", references[0]], [references, references[:1]])
    assert scores["direction"] == pytest.approx({"precision": 100, "recall": 100 / 3, "F1": 50})
    assert "recall" in factuality_text(scores)


def test_where_nobody_claims_anything_there_is_no_number():
    scores = factuality(["no change", "trees appear"], [["the scene is the same as before"], ["a road is built"]])
    assert scores["places"] == {"precision": None, "recall": None, "F1": None}
    assert scores["counts"] == {"precision": None, "recall": 0, "F1": 0}
    assert factuality_text(scores).splitlines()[-1].split() == ["places", "-", "-", "-"]


def test_an_opposite_direction_is_wrong_though_the_object_is_right():
    scores = factuality(["the houses are removed"], [["many houses are built"]])
    assert scores["objects"]["F1"] == 100 and scores["direction"]["F1"] == 0


def test_published_captions_claim_what_their_references_do(shared):
    """The captions of a 7 B model score far higher than the same captions in another order."""
    from btcchat.eval.captions.predictions import read_predictions

    rows = read_predictions(shared / "data/predictions/CCExpert_7b_LEVIR-CC_infer_results.txt").rows[::10]
    texts, references = [row.prediction for row in rows], [row.references for row in rows]
    right, shifted = factuality(texts, references), factuality(texts[1:] + texts[:1], references)
    assert right["direction"]["precision"] > 90 and right["objects"]["F1"] > 80
    assert all(shifted[kind]["F1"] < right[kind]["F1"] - 15 for kind in right)
