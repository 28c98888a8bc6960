"""The text of a mixture, and YAML files of data sets."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from btcchat.data.mixture.descriptions import read_file
from btcchat.data.mixture.mixture import located
from btcchat.data.mixture.terms import MOST_SETS, terms
from btcchat.data.records.shards import _expanded
from btcchat.errors import BTCChatError
from tests.fuzz.values import EDITS, ENDS, TIMES, VALUES, mutated

KNOWN = {
    "a": {"annotation": "a.jsonl", "images": "."},
    "b": {"annotation": "{split}.jsonl", "images": ".", "splits": ["train", "val"]},
    "ab": {"mixture": "a*3+b:val"},
    "self": {"mixture": "a+self"},
    **{f"m{i}": {"mixture": f"m{i + 1}*9+m{i + 1}"} for i in range(60)},
    "m60": {"mixture": "a"},
}
PIECES = [*KNOWN, *"+*@: 9", "val", "first:5", "5%", "random:", "all", "9" * 5000, "²", "x.yaml", "\ud800"]
YAML = b"a: {annotation: a.jsonl, images: ., sampling: all}\nb: &b\n  annotation: b\nm: {mixture: a+b*2}\n"
KEYS = ["annotation", "images", "sampling", "captions", "splits", "split", "subset", "streaming", "mixture", "gsd"]


@settings(max_examples=500 * TIMES)
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(max_size=20))
def test_a_mixture_is_read_or_refused_in_one_line(mixture):
    try:
        assert 1 <= len(terms(mixture, KNOWN)) <= MOST_SETS
    except BTCChatError as error:
        assert "\n" not in str(error).replace(mixture, "")


@settings(max_examples=300 * TIMES)
@given(description=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4) | VALUES)
def test_a_description_of_a_set_is_read_or_refused_in_one_line(tmp_path_factory, description):
    path = tmp_path_factory.getbasetemp() / "sets.yaml"
    path.write_text(json.dumps({"mine": description}))
    try:
        for term in terms(str(path), {}):
            located(term, "root")
    except BTCChatError as error:
        assert "\n" not in str(error)


@settings(max_examples=300 * TIMES)
@given(edits=EDITS, end=ENDS)
def test_a_yaml_file_of_any_bytes_is_read_or_refused_in_one_line(tmp_path_factory, edits, end):
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(mutated(YAML, edits, end))
    try:
        read_file(path)
    except BTCChatError as error:
        assert "\n" not in str(error)


@given(st.from_regex(r"s-\{\d{0,12}\.\.\d{0,12}\}\.tar", fullmatch=True))
def test_a_pattern_of_shards_is_bounded(pattern):
    try:
        assert len(_expanded(pattern)) <= 100_000
    except BTCChatError as error:
        assert "\n" not in str(error)
