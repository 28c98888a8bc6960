"""Rows of annotation files, and the text of a question."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcchat import request
from btcchat.data.pairs import read_pairs
from btcchat.data.records import Records, parse
from btcchat.errors import BTCChatError
from tests.fuzz.values import EDITS, ENDS, TIMES, VALUES, mutated

ROW = {
    "modality": "pair",
    "images": ["a.png", "b.png"],
    "conversations": [{"from": "human", "value": "<image>\n<image>\nWhat?"}, {"from": "gpt", "value": "A house."}],
    "dates": ["2010", "2014"],
    "task": "caption",
    "clue": "a house",
    "captions": ["A house.", "One house."],
}
TURNS = st.lists(
    st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt"]) | VALUES, "value": VALUES}), max_size=3
)


@settings(max_examples=600 * TIMES)
@given(changes=st.dictionaries(st.sampled_from([*ROW, "image", "video"]), VALUES | TURNS, max_size=3))
def test_a_row_is_parsed_or_refused_in_one_line(changes):
    try:
        record = parse(ROW | changes, "a.jsonl row 1", "images")
    except BTCChatError as error:
        assert str(error).startswith("a.jsonl row 1: ") and "\n" not in str(error)
    else:
        json.dumps(record.conversations).encode()


@pytest.mark.parametrize("data", [json.dumps([ROW] * 2).encode(), (json.dumps(ROW) + "\n").encode() * 2])
@settings(max_examples=150 * TIMES)
@given(edits=EDITS, end=ENDS)
def test_a_file_of_rows_is_read_or_refused_in_one_line(tmp_path_factory, data, edits, end):
    path = tmp_path_factory.getbasetemp() / "rows.json"
    path.write_bytes(mutated(data, edits, end))
    try:
        assert len(Records(path, ".")) >= 1
    except BTCChatError as error:
        assert "\n" not in str(error)


@settings(max_examples=150 * TIMES)
@given(edits=EDITS, end=ENDS)
def test_a_list_of_pairs_is_read_or_refused_in_one_line(tmp_path_factory, edits, end):
    path = tmp_path_factory.getbasetemp() / "list.csv"
    path.write_bytes(mutated(b"before,after,id\na.png,b.png,1\nc.png,d.png,2\n", edits, end))
    try:
        pairs, faults = read_pairs(path)
    except BTCChatError as error:
        assert "\n" not in str(error)
    else:
        assert pairs == [] and faults


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    from tests.tiny import tiny_model

    return tiny_model(tmp_path_factory.mktemp("model")).processor


@settings(max_examples=150 * TIMES)
@given(question=st.text(st.characters(), max_size=30) | st.sampled_from(["\ud800", "<image>", "</s>", "\0", "\x1b[2J"]))
def test_a_question_is_tokenised_or_refused_in_one_line(processor, question):
    try:
        sample = processor(request(question), train=False)
    except BTCChatError as error:
        assert "\n" not in str(error)
    else:
        assert len(sample["input_ids"]) > 0
