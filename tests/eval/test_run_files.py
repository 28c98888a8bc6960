"""run.json, metrics.json and clues.json with values of wrong types: a one-line error that names the key."""

import json

import pytest

from btcchat.clues.store import read_about
from btcchat.errors import BTCChatError
from btcchat.eval.runs.conditions import different_conditions
from btcchat.eval.runs.finished import read_run, selected_of
from btcchat.eval.runs.folder import RunFolder

RUN = {
    "model": {"path": "m", "fingerprint": "f"},
    "data": [{"set": "pairs:val", "samples": 1, "sha256": "0"}],
    "options": {},
    "versions": {"torch": "2"},
    "processes": 1,
}
METRICS = {"preset": "coco", "sets": {"pairs:val": {"kind": "captions", "samples": 1, "data kind": None}}}
ROW = {"id": "1", "prediction": "a house", "references": ["a house"]}
CLUES = {"model": "m", "identity": "f", "questions": {"pair": "What?"}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "predictions.jsonl").write_text(json.dumps(ROW) + "\n")
    for name, content in (("run.json", RUN), ("metrics.json", METRICS), ("clues.json", CLUES)):
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model", 5, "model is 5, expected a JSON object"),
        ("model", {"path": 5, "fingerprint": "f"}, "model is 5, expected a string"),
        ("data", {}, "data is {}, expected a list"),
        ("data", [5], r"data\[0\] is 5, expected a JSON object"),
        ("options", [], r"options is \[\], expected a JSON object"),
        ("versions", {"torch": 2}, "versions is 2, expected a string"),
        ("processes", "1", "processes is '1', expected a whole number"),
        ("selected", "best", "selected is 'best', expected a JSON object"),
    ],
)
def test_a_wrong_value_in_run_json_is_named(folder, key, value, words):
    (folder / "run.json").write_text(json.dumps(RUN | {key: value}))
    for use in (
        read_run,
        selected_of,
        lambda path: different_conditions(path, path),
        lambda path: RunFolder(path).start(RUN),
    ):
        with pytest.raises(BTCChatError, match=f"run.json: {words}; run btcchat eval again with another --out$"):
            use(folder)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("preset", 5, "preset is 5, expected a string"),
        ("sets", [], r"sets is \[\], expected a JSON object"),
        ("sets", {"pairs:val": {"kind": "poems", "samples": 1}}, "sets is 'poems', expected 'captions', 'questions'"),
        ("sets", {"pairs:val": {"kind": "captions", "samples": "1"}}, "sets is '1', expected a whole number"),
    ],
)
def test_a_wrong_value_in_metrics_json_is_named(folder, key, value, words):
    (folder / "metrics.json").write_text(json.dumps(METRICS | {key: value}))
    with pytest.raises(BTCChatError, match=f"metrics.json: {words}.*; delete this file, then run btcchat eval again$"):
        read_run(folder)


@pytest.mark.parametrize(
    ("key", "value"), [("model", 5), ("identity", None), ("questions", []), ("questions", {"a": 1})]
)
def test_a_wrong_value_in_clues_json_is_named(folder, key, value):
    (folder / "clues.json").write_text(json.dumps(CLUES | {key: value}))
    with pytest.raises(BTCChatError, match=f"clues.json: {key} is .*, expected .*; write the clues again"):
        read_about(folder)


def test_correct_files_are_read(folder):
    assert read_run(folder).processes == 1 and read_about(folder) == CLUES
