"""Every fault of a predictions file is one line that names the line, and exit code 2."""

import json

import pytest

from btcchat.cli import main
from btcchat.errors import BTCChatError
from btcchat.eval.captions.predictions import read_predictions

HOUSE = {"id": "a", "prediction": "a house", "references": ["a house is built", "one house"]}


def row(**changes) -> dict:
    return {**HOUSE, **changes}


def without(name: str) -> dict:
    return {key: value for key, value in HOUSE.items() if key != name}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([HOUSE, '{"id": "b", "predic'], "line 2: not JSON"),
        ([HOUSE, "[1, 2]"], "line 2: got a list, expected one object {...} per line"),
        ([HOUSE, "[" * 100_000], "line 2: not JSON"),
        ([HOUSE, f'{{"id": {"9" * 5000}, "prediction": "a"}}'], "line 2: not JSON (a number with too many digits)"),
        (
            ["{}"],
            "line 1: no field 'id' or 'uid' or 'filename' or 'image_id'; found no fields; give --id-field NAME",
        ),
        ([HOUSE, row(id="b", prediction=None)], "line 2: 'prediction' is null; expected a string"),
        ([HOUSE, row(id="b", prediction=["a house"])], "line 2: 'prediction' is a list"),
        ([HOUSE, row(id=None)], "line 2: 'id' is null"),
        ([HOUSE, row(id=True)], "line 2: 'id' is true or false"),
        ([HOUSE, row(id="b", references="a house")], "line 2: 'references' is a string; expected a list"),
        ([HOUSE, row(id="b", references=[])], "line 2: 'references' is an empty list"),
        ([HOUSE, row(id="b", references=["x", 3])], "line 2: reference 2 of 'references' is a number"),
        ([HOUSE, row(id="b", references=["x", " . "])], "line 2: reference 2 of 'references' is empty"),
        ([HOUSE, {**without("prediction"), "id": "b"}], "line 2: no field 'prediction'"),
        (
            [without("references")],
            "line 1: no field 'references' or 'change_caption' or 'captions'; found id, prediction; give",
        ),
        ([without("id")], "line 1: no field 'id' or 'uid' or 'filename' or 'image_id'"),
        ([HOUSE, row(prediction="a road")], "line 1 and line 2 both have the id 'a' but differ"),
        ([HOUSE, row(references=["a road"])], "line 1 and line 2 both have the id 'a'"),
        ([row(changeflag=2)], "line 1: 'changeflag' is 2; expected 0 or 1"),
        ([""], "empty; expected JSON lines"),
    ],
)
def test_a_fault_is_one_line_that_names_its_line(rows, words, write, capsys):
    assert main(["score", write("p.jsonl", rows)]) == 2
    out, err = capsys.readouterr()
    assert words in err and "p.jsonl" in err
    assert err.count("\n") == 1 and out == ""


def test_files_that_cannot_be_read_are_named(tmp_path, capsys):
    assert main(["score", str(tmp_path / "none.jsonl")]) == 2
    assert main(["score", str(tmp_path)]) == 2
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": 1}\n{"id": "caf\xe9"}\n')
    with pytest.raises(BTCChatError, match=r"line 1: no field"):
        read_predictions(tmp_path / "latin.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'\n{"id": "caf\xe9"}\n')
    assert main(["score", str(tmp_path / "latin.jsonl")]) == 2
    missing, folder, latin = capsys.readouterr().err.splitlines()
    assert "cannot be read" in missing and "none.jsonl" in missing
    assert "is not a run of btcchat eval, since it has no run.json; give a run, or a file" in folder
    assert "line 2: not UTF-8 (byte 12; save it as UTF-8)" in latin


def test_duplicate_rows_are_dropped_and_counted(write):
    read = read_predictions(write("p.jsonl", [HOUSE, HOUSE, row(id="b"), HOUSE]))
    assert [one.id for one in read.rows] == ["a", "b"]
    assert read.duplicates == 2


def test_ccexperts_names_and_given_names_are_found(write):
    theirs = {"uid": "a", "pred": "a house", "change_caption": ["one house"]}
    read = read_predictions(write("p.jsonl", [theirs]))
    assert (read.rows[0].id, read.rows[0].prediction, read.rows[0].references) == ("a", "a house", ("one house",))
    mine = {"key": 7, "answer": "a house", "gt": ["one house"], "is_changed": 1}
    fields = {"id": "key", "prediction": "answer", "references": "gt", "flag": "is_changed"}
    read = read_predictions(write("q.jsonl", [mine]), fields)
    assert (read.rows[0].id, read.rows[0].prediction, read.rows[0].changed) == ("7", "a house", True)


def test_a_line_separator_inside_a_text_ends_no_row(write):
    read = read_predictions(write("p.jsonl", ['{"id": 1, "prediction": "a\u2028b\x85c", "references": ["x"]}']))
    assert read.rows[0].prediction == "a\u2028b\x85c"


def test_ids_are_checked_against_a_references_file(write, capsys):
    predictions = write("p.jsonl", [{"id": "a", "prediction": "x"}])
    references = write("r.jsonl", [{"id": name, "references": ["a house"]} for name in "abc"])
    assert main(["score", predictions, "--references", references]) == 2
    assert "2 ids 'b', 'c' of" in capsys.readouterr().err
    read = read_predictions(predictions, references=references, partial=True)
    assert read.missing == ["b", "c"] and read.rows[0].references == ("a house",)
    strange = write("s.jsonl", [{"id": "z", "prediction": "x"}])
    assert main(["score", strange, "--references", references]) == 2
    assert "1 id 'z' (line 1) not in" in capsys.readouterr().err


def test_our_ids_find_their_references_in_levir_ccs_file_and_in_annotations(write, tmp_path):
    said = [{"filename": f"{name}.png", "split": "val", "sentences": [{"raw": f"{name} was built"}]} for name in "ab"]
    (tmp_path / "LevirCCcaptions.json").write_text(json.dumps({"images": said}))
    predictions = write("p.jsonl", [{"id": name, "prediction": "x"} for name in "ba"])
    read = read_predictions(predictions, references=tmp_path / "LevirCCcaptions.json", split="val")
    assert [(one.id, one.references) for one in read.rows] == [("b", ("b was built",)), ("a", ("a was built",))]
    annotations = write("val.jsonl", [{"id": name, "captions": [f"{name} was built"]} for name in "ab"])
    assert read_predictions(predictions, references=annotations).rows == read.rows
    said[1]["filename"] = "a.jpg"  # two files of one stem: it cannot be known which one is meant
    (tmp_path / "LevirCCcaptions.json").write_text(json.dumps({"images": said}))
    with pytest.raises(BTCChatError, match=r"whose ids look like 'a.png'"):
        read_predictions(predictions, references=tmp_path / "LevirCCcaptions.json", split="val")


def test_levir_ccs_own_file_gives_references_and_flags(write, shared):
    path = shared / "data" / "levir_cc_subset" / "LevirCCcaptions.json"
    images = [image for image in json.loads(path.read_text())["images"] if image["split"] == "val"]
    predictions = write("p.jsonl", [{"id": image["filename"], "prediction": "x"} for image in images])
    read = read_predictions(predictions, references=path, split="val")
    assert len(read.rows) == 94 and {len(one.references) for one in read.rows} == {5}
    assert [one.changed for one in read.rows] == [bool(image["changeflag"]) for image in images]
    with pytest.raises(BTCChatError, match="no row of the split 'test'; its splits are train, val"):
        read_predictions(predictions, references=path, split="test")


COCO = {
    "info": {},
    "images": [{"id": 7, "file_name": "a.png", "split": "val"}, {"id": 8, "file_name": "b.png"}, {"id": 9}],
    "annotations": [
        {"id": 1, "image_id": 8, "caption": "a road"},
        {"id": 2, "image_id": 7, "caption": "a house"},
        {"id": 3, "image_id": 8, "caption": "one road"},
    ],
}


def test_cocos_captions_and_results_are_read(tmp_path, capsys):
    (tmp_path / "captions.json").write_text(json.dumps(COCO, indent=1))
    results = [{"image_id": 7, "caption": "a house"}, {"image_id": 8, "caption": "a river"}]
    (tmp_path / "results.json").write_text(" " + json.dumps(results))
    read = read_predictions(tmp_path / "results.json", references=tmp_path / "captions.json")
    assert [(row.id, row.prediction, row.references) for row in read.rows] == [
        ("7", "a house", ("a house",)),
        ("8", "a river", ("a road", "one road")),
    ]
    by_name = [{"file_name": "b.png", "caption": "a road"}]
    (tmp_path / "named.json").write_text(json.dumps(by_name))
    fields = {"id": "file_name"}
    read = read_predictions(tmp_path / "named.json", fields, references=tmp_path / "captions.json", partial=True)
    assert [row.references for row in read.rows] == [("a road", "one road")] and read.missing == ["a.png"]
    command = ["score", str(tmp_path / "results.json"), "--references", str(tmp_path / "captions.json"), "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["all"]["pairs"] == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"annotations": [{"image_id": 3, "caption": "x"}]},
            "annotations row 1 is for image 3, which 'images'",
        ),
        (
            {"annotations": [{"image_id": 7, "bbox": [0]}]},
            "annotations row 1: no 'caption'; its fields are image_id, bbox",
        ),
        ({"annotations": [{"image_id": 7, "caption": None}]}, "annotations row 1: 'caption' is null; expected COCO's"),
        ({"annotations": [{"image_id": [7], "caption": "x"}]}, "annotations row 1: 'image_id' is a list"),
        ({"annotations": [7]}, "annotations row 1: got a number, expected an object"),
        ({"annotations": None}, "annotations row 1: got null, expected an object"),
        ({"images": ["a.png"]}, "images row 1: got a string, expected an object"),
        ({"annotations": []}, "captions.json: no row"),
    ],
)
def test_a_fault_of_cocos_captions_is_one_line(tmp_path, capsys, change, words):
    (tmp_path / "captions.json").write_text(json.dumps(COCO | change))
    (tmp_path / "results.json").write_text(json.dumps([{"image_id": 7, "caption": "a house"}]))
    command = ["score", str(tmp_path / "results.json"), "--references", str(tmp_path / "captions.json")]
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and not out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"image_id": 1, "caption": "a"}, 7]', "row 2: got a number, expected an object"),
        ('[{"image_id": 1, "caption": "a"}, {"image_id": 2}]', "row 2: no field 'caption'"),
        ('[{"image_id": 1, "caption": "a"}, {"image_id": 1, "caption": "b"}]', "row 1 and row 2 both have the id '1'"),
        ('[{"image_id": 1, "capt', "results.json is not JSON ("),
        ("[]", "results.json: empty; expected JSON lines, or an array of objects"),
        ("[" * 100_000, "results.json is not JSON (nested too deeply); correct the file or get it again"),
    ],
)
def test_a_fault_of_a_json_array_is_one_line_that_names_its_row(tmp_path, write, capsys, text, words):
    (tmp_path / "results.json").write_text(text)
    references = write("r.jsonl", [{"id": 1, "references": ["a house"]}])
    assert main(["score", str(tmp_path / "results.json"), "--references", references]) == 2
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and not out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--preset", "levir"], "unknown text preset 'levir' (did you mean 'levir-cc'?); choose from levir-cc"),
        (["--partial"], "--partial needs --references"),
        (["--split", "test"], "--split needs --references"),
        (
            ["--id-field", "key"],
            "line 1: no field 'key'; found id, prediction, references; give --id-field NAME",
        ),
        (["--java", "/nowhere/java"], "no Java at '/nowhere/java'"),
    ],
)
def test_conflicting_options_are_named(options, words, write, capsys):
    assert main(["score", write("p.jsonl", [HOUSE]), *options]) == 2
    assert words in capsys.readouterr().err
