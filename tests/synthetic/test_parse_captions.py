"""benchmarks/parse_captions.py reads back exactly what btcchat.synthetic writes, and similar sentences."""

import pytest

from btcchat.synthetic import make_pair, make_series, make_video, swap
from btcchat.synthetic.answers import plain_caption
from parse_captions import parse_caption


def changes_of(sample):
    return [(c["kind"], c["action"], c["count"], c["place"]) for c in sample.truth["changes"]]


@pytest.mark.parametrize("heldout", [False, True])
def test_the_caption_parser_reads_every_own_caption_exactly(undrawn, heldout):
    for seed in range(150):
        pair = make_pair(seed, heldout=heldout)
        for sample in (pair, swap(pair), make_series(seed, heldout=heldout), make_video(seed, heldout=heldout)):
            assert len(set(sample.captions)) == 5
            for caption in sample.captions:
                assert sorted(parse_caption(caption)) == sorted(changes_of(sample)), caption
                assert caption == caption.lower() and caption.endswith(" .")


@pytest.mark.parametrize(
    ("caption", "changes"),
    [
        ("Three houses were built in the top left corner.", [("house", "built", 3, "top left")]),
        (
            "a pond is filled in at the bottom and two homes appear on the right .",
            [("pond", "removed", 1, "bottom"), ("house", "built", 2, "right")],
        ),
        (
            "two houses replace the trees in the center .",
            [("house", "built", 2, "center"), ("trees", "removed", 1, "center")],
        ),
        ("houses were built .", [("house", "built", None, None)]),
        ("a large building", [("building", None, 1, None)]),
        (
            "a road is built on the left and a pond on the right .",
            [("road", "built", 1, "left"), ("pond", "built", 1, "right")],
        ),
        ("nothing has changed here .", []),
        ("", []),
    ],
)
def test_the_caption_parser_reads_other_sentences_of_the_genre(caption, changes):
    assert parse_caption(caption) == changes


@pytest.mark.parametrize(("make", "when"), [(make_pair, 0), (make_series, "date ,"), (make_video, "half ,")])
def test_a_plain_caption_says_every_change_and_over_time_when(undrawn, make, when):
    for seed in range(30):
        sample = make(seed)
        changes = sample.truth["changes"]
        text = plain_caption(changes, len(sample.images), video=make is make_video)
        assert parse_caption(text) == changes_of(sample)
        assert text.count(when) == len(changes) if when else "date" not in text
