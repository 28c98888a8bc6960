"""`btcchat data convert generic`: any VQA or caption file, with a mapping for its fields."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from btcchat import cli
from btcchat.data.convert import BadRows, convert
from btcchat.data.convert.base import CHANGE_QUESTION
from btcchat.data.convert.fields import parse_mapping
from btcchat.data.records import Records
from btcchat.errors import BTCChatError
from btcchat.limits.csv_file import MOST_CHARACTERS

PAIR = {"question": "Q", "answer": "A", "image": "path1", "image2": "path2"}
ROW = {"Q": "What is new?", "A": "a house", "path1": "a.png", "path2": "b.png"}
TALK = [{"from": "human", "value": "<image>\nWhat is new?"}, {"from": "gpt", "value": "a house"}]


@pytest.fixture
def converted(tmp_path):
    """converted(rows, mapping) -> the records of a file ``vqa.json`` (or another name) with these rows, by split."""
    for name in "abc":
        Image.new("RGB", (8, 8), ord(name)).save(tmp_path / f"{name}.png")
    Image.new("L", (8, 8)).save(tmp_path / "empty.png")

    def go(rows, mapping, name="vqa.json") -> dict[str, list[dict]]:
        if name.endswith(".json"):
            text = json.dumps(rows)
        elif name.endswith(".jsonl"):
            text = "\n".join(map(json.dumps, rows))
        else:
            text = rows
        (tmp_path / name).write_text(text, encoding="utf-8")
        out = tmp_path / "out"
        written = convert("generic", tmp_path / name, out, mapping=mapping)
        assert {split: len(Records(out / f"{split}.jsonl", tmp_path)) for split in written} == written
        return {
            split: [json.loads(line) for line in (out / f"{split}.jsonl").read_text().splitlines()] for split in written
        }

    return go


@pytest.mark.parametrize("name", ["vqa.json", "vqa.jsonl"])
def test_a_row_becomes_a_record_of_as_many_images_as_are_mapped(converted, name):
    (record,) = converted([ROW], PAIR, name)["vqa"]
    assert record == {"id": "1", "modality": "pair", "images": ["a.png", "b.png"], "conversations": TALK}


@pytest.mark.parametrize(
    ("mapping", "media"),
    [
        ({"image": "path1"}, {"modality": "image", "image": "a.png"}),
        (
            {"image": "path1", "image3": "path1", "image2": "path2"},
            {"modality": "series", "images": ["a.png", "b.png", "a.png"]},
        ),
        ({"images": "paths"}, {"modality": "pair", "images": ["b.png", "a.png"]}),
        ({"image": "paths.1"}, {"modality": "image", "image": "a.png"}),
        ({"image": "meta.file"}, {"modality": "image", "image": "c.png"}),
        ({"image": "dotted.key"}, {"modality": "image", "image": "b.png"}),
    ],
)
def test_images_are_fields_lists_or_nested_fields(converted, mapping, media):
    row = ROW | {"paths": ["b.png", "a.png"], "meta": {"file": "c.png"}, "dotted.key": "b.png"}
    (record,) = converted([row], {"question": "Q", "answer": "A"} | mapping)["vqa"]
    assert {key: record[key] for key in ("modality", "image", "images") if key in record} == media


def test_a_csv_is_read_with_its_splits_ids_and_numbers(converted):
    lines = [
        "\ufeffkey;Q;A;path1;part;kind",
        '7;"How many; exactly?";3;a.png;train;count',
        "",
        "8;Wet?;no;b.png;val;yes/no",
    ]
    text = "\r\n".join(lines)
    mapping = {"id": "key", "question": "Q", "answer": "A", "image": "path1", "split": "part", "question_type": "kind"}
    records = converted(text, mapping, "vqa.csv")
    assert list(records) == ["train", "val"]
    assert records["train"][0] == {
        "id": "7", "modality": "image", "image": "a.png", "question_type": "count",
        "conversations": [{"from": "human", "value": "<image>\nHow many; exactly?"}, {"from": "gpt", "value": "3"}],
    }  # fmt: skip


def test_captions_are_kept_and_a_question_asks_for_them(converted):
    row = ROW | {"texts": ["a house", " one house "], "changed": "1"}
    mapping = {"image": "path1", "image2": "path2", "captions": "texts", "change_flag": "changed"}
    (record,) = converted([row], mapping)["vqa"]
    assert record["captions"] == ["a house", "one house"] and record["change_flag"] == 1
    assert record["conversations"][0]["value"] == f"<image>\n{CHANGE_QUESTION}"
    assert record["conversations"][1]["value"] == "a house"


def test_rows_under_a_key_numbers_and_written_placeholders(converted):
    row = ROW | {"A": 2.5, "Q": "Before: <image> after: <image>\nWhat is new?"}
    (record,) = converted({"info": {}, "questions": [row]}, PAIR | {"rows": "questions"})["vqa"]
    assert [turn["value"] for turn in record["conversations"]] == [row["Q"], "2.5"]


def test_disagreement_is_checked_here_too(converted, tmp_path):
    (tmp_path / "vqa.json").write_text(json.dumps([ROW | {"mask": "empty.png", "flag": True}]))
    mapping = PAIR | {"mask": "mask", "change_flag": "flag"}
    found = convert("generic", tmp_path / "vqa.json", tmp_path / "out", mapping=mapping)
    assert list(map(str, found.disagreements)) == [
        "vqa.json row 1: changed according to change_flag, unchanged according to mask"
    ]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"Q": None}, "'Q' is null, expected a string or a number"),
        ({"Q": " "}, "'Q' is empty, expected a string or a number"),
        ({"A": True}, "'A' is true or false, expected a string or a number"),
        ({"A": ["yes"]}, "'A' is a list, expected a string or a number"),
        ({"path2": 3}, "'path2' is a number, expected a path"),
        ({"path2": "none.png"}, "image '"),
        ({"Q": "<video>\nWhat is new?"}, "'<video>' in turn 1 is not a placeholder here; write <image> for an image"),
    ],
)
def test_a_bad_row_is_one_line_with_its_number(converted, tmp_path, change, fault):
    with pytest.raises(BadRows) as caught:
        converted([ROW, ROW | change, {"Q": "no answer"}], PAIR)
    second, third = caught.value.faults
    assert second.startswith(f"vqa.json row 2: {fault}")
    assert third == "vqa.json row 3: no 'path1'; found Q"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Q,A,path1\nx,y\n", "vqa.csv row 2: 2 columns, but the header has 3"),
        ('Q,A,path1\nx,y,a.png\n"x,y,z\n', "vqa.csv row 3: not CSV (unexpected end of data)"),
        ("Q,A\nx,y\n", "vqa.csv row 2: no 'path1'; found Q, A"),
        ("Q,A,path1\n", "vqa.csv has no rows"),
        (
            f"Q,A,path1\nx,y,{'a' * (MOST_CHARACTERS + 1)}\n",
            "vqa.csv row 2: not CSV (a cell has more than 1,048,576 cha",
        ),
    ],
)
def test_a_fault_of_a_csv_is_one_line(converted, text, fault):
    with pytest.raises(BTCChatError) as caught:
        converted(text, {"question": "Q", "answer": "A", "image": "path1"}, "vqa.csv")
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ([], "--map has no answer; give --map question=FIELD,answer=FIELD,image=FIELD"),
        (["--map", "question=Q,image=path1"], "--map has no answer"),
        (["--map", "question=Q,answer=A"], "--map has no image; give one of image, images and video"),
        (["--map", "answer=A,image=path1,video=v"], "--map has image and video; give one of"),
        (["--map", "answer=A,image=path1,image3=c"], "--map has image, image3; expected image, image2"),
        (["--map", "answer=A,picture=path1"], "unknown name in --map 'picture'"),
        (["--map", "answer"], "--map answer: expected NAME=FIELD"),
        (["--map", "answer=A,answer=B"], "--map has 'answer' twice"),
    ],
)
def test_an_invalid_mapping_is_named(converted, tmp_path, capsys, words, fault):
    (tmp_path / "vqa.json").write_text(json.dumps([ROW]))
    assert cli.main(["data", "convert", "generic", str(tmp_path / "vqa.json"), str(tmp_path / "out"), *words]) == 2
    assert fault in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_mapping_is_only_for_this_kind(shared, tmp_path):
    with pytest.raises(BTCChatError, match="--map is only for the kind generic"):
        convert("levir_cc", shared / "data/levir_cc_subset", tmp_path / "out", mapping=PAIR)


def test_the_command_takes_the_mapping_in_parts(converted, tmp_path, capsys):
    (tmp_path / "vqa.json").write_text(json.dumps([ROW]))
    words = ["--map", "question=Q,answer=A", "--map", "image1=path1, image2=path2"]
    assert parse_mapping([words[1], words[3]]) == PAIR
    assert cli.main(["data", "convert", "generic", str(tmp_path / "vqa.json"), str(tmp_path / "out"), *words]) == 0
    assert "1 vqa records written" in capsys.readouterr().err


def test_the_documented_example_works(tmp_path, monkeypatch, capsys):
    docs = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    text = re.search(r"```csv\n(.+?)```", docs, re.DOTALL)[1]
    command = re.search(r"^btcchat (data convert generic (?:.*\\\n)*.+)$", docs, re.MULTILINE)[1]
    monkeypatch.chdir(tmp_path)
    Path("harbour.csv").write_text(text)
    Path("tiles").mkdir()
    for name in re.findall(r"\d+_\d+\.png", text):
        Image.new("RGB", (8, 8)).save(f"tiles/{name}")
    assert cli.main(command.replace("\\\n", " ").split()) == 0
    assert "1 train, 1 val records written to annotations/harbour" in capsys.readouterr().err
    record = Records("annotations/harbour/val.jsonl", "tiles")[0]
    assert (record.modality, record.row["id"], record.row["question_type"]) == ("pair", "13", "count")
    assert [turn["value"] for turn in record.conversations] == ["<image>\nHow many ships are new?", "2"]
