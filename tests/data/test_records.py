"""Annotation files: lazy reading, and an error for each kind of bad row."""

import json

import pytest

from btcchat.data.records import CODES, Records
from btcchat.errors import BTCChatError

TALK = [{"from": "human", "value": "<image>\nWhat is new?"}, {"from": "gpt", "value": "a house"}]


def row(**changes) -> dict:
    base = {"modality": "pair", "images": ["a.png", "b.png"], "conversations": TALK} | changes
    return {key: value for key, value in base.items() if value is not None}


def written(path, rows, lines: bool):
    text = "\n".join(json.dumps(r, ensure_ascii=False) for r in rows) + "\n" if lines else json.dumps(rows, indent=1)
    path.write_text(text, encoding="utf-8")
    return path


ROWS = [
    row(id="å–é"),  # more bytes than characters: offsets are in bytes
    row(modality="image", images=None, image="c.png"),
    row(modality="video", images=None, video="clip.mp4"),
    row(modality="series", images=list("abc"), dates=["2010", "2014", "2019"], task="vqa", clue="water"),
    row(modality="text", images=None),
]


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_rows_are_found_again_by_their_place_in_the_file(tmp_path, name):
    records = Records(written(tmp_path / name, ROWS, name.endswith("l")), tmp_path / "images")
    got = [records[i] for i in (4, 3, 2, 1, 0)][::-1]
    assert [r.modality for r in got] == [r["modality"] for r in ROWS]
    assert got[0].sources == [str(tmp_path / "images" / "a.png"), str(tmp_path / "images" / "b.png")]
    assert got[2].sources == str(tmp_path / "images" / "clip.mp4")
    assert (got[3].dates, got[3].task, got[3].clue) == (["2010", "2014", "2019"], "vqa", "water")
    assert got[4].sources == []
    assert [CODES[code] for code in records.modality_codes] == [r["modality"] for r in ROWS]
    assert list(records.frames) == [2, 1, -1, 3, 0]
    assert records.characters[0] == len("<image>\nWhat is new?a house")


def test_blank_lines_are_not_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(f"\n{json.dumps(ROWS[0])}\n\n{json.dumps(ROWS[1])}", encoding="utf-8")
    records = Records(path, tmp_path)
    assert [records[0].modality, records[1].modality] == ["pair", "image"]


BAD = {
    "levir_cc.json row 2: 1 image, a pair needs 2 (before, after)": row(images=["a.png"]),
    "levir_cc.json row 2: 3 images, a pair needs 2 (before, after)": row(images=["a", "b", "c"]),
    "levir_cc.json row 2: 17 images, a series needs 2 to 16 dates": row(modality="series", images=["a"] * 17),
    "levir_cc.json row 2: 0 images, an image needs 1": row(modality="image", images=[]),
    "2: 0 images, a pair needs 2 (before, after); the key 'imges' is not read (did you mean 'images'?)": (
        row(images=None, imges=["a.png", "b.png"])
    ),
    "levir_cc.json row 2: 2 images, a text needs none": row(modality="text"),
    "levir_cc.json row 2: no 'modality'": row(modality=None),
    "levir_cc.json row 2: unknown modality 'pairs' (did you mean 'pair'?)": row(modality="pairs"),
    "levir_cc.json row 2: unknown modality '['pair']'": row(modality=["pair"]),
    "levir_cc.json row 2: both 'image' and 'images'": row(image="a.png"),
    "levir_cc.json row 2: 7 in 'images', expected a path": row(images=["a.png", 7]),
    "levir_cc.json row 2: it has a 'video' path, but modality 'pair'": row(images=None, video="a.mp4"),
    "levir_cc.json row 2: 1 dates, expected one for each image": row(dates=["2010"]),
    "levir_cc.json row 2: 'dates' is a string, expected a list": row(dates="10"),
    "levir_cc.json row 2: 'clue' is a number, expected a string": row(clue=3),
    "levir_cc.json row 2: 'change_flag' is '1'; expected 1 (changed) or 0 (unchanged)": row(change_flag="1"),
    "levir_cc.json row 2: no 'conversations'": row(conversations=None),
    "levir_cc.json row 2: turn 1 is not": row(conversations=[{"from": "bot", "value": "hi"}]),
    "levir_cc.json row 2: no answer": row(conversations=[TALK[0], {"from": "gpt", "value": " "}]),
    "levir_cc.json row 2: answer 2 has no text": row(conversations=[*TALK, TALK[0], {"from": "gpt", "value": " "}]),
    "levir_cc.json row 2: the conversation ends with a question": row(conversations=[*TALK, TALK[0]]),
    "levir_cc.json row 2: no question; an answer must follow": row(conversations=TALK[1:]),
    "levir_cc.json row 2: turn 2 is from 'human', expected 'gpt'": row(conversations=[TALK[0], *TALK]),
    "levir_cc.json row 2: turn 4 is from 'gpt', expected 'human'": row(conversations=[TALK[1], *TALK, TALK[1]]),
    "levir_cc.json row 2: this is a list, but a record must be a JSON object": [],
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_record_names_its_file_and_row(tmp_path, message):
    path = written(tmp_path / "levir_cc.json", [ROWS[0], BAD[message]], lines=False)
    with pytest.raises(BTCChatError) as error:
        Records(path, tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("r.jsonl", '{"modality": "text"', r"r.jsonl row 1: not JSON \(.*\); correct the file or get it again"),
        ("r.json", '[{"a": 1', r"r.json row 1: not JSON \(.*\); correct the file or get it again"),
        ("r.json", "[]", "has no records"),
        ("r.jsonl", "", "has no records"),
        ("r.json", f"[{json.dumps(ROWS[0])} {json.dumps(ROWS[0])}]", "row 1: not followed by"),
        ("r.json", f"[{json.dumps(ROWS[0])}", "row 1: not followed by"),
        ("r.jsonl", b"\xff\xfe", r"row 1: not UTF-8 \(byte 1; save it as UTF-8\)"),
        ("r.json", b'["\xff"]', r"""r.json: not UTF-8 near '\["."?xff"\]'; save it as UTF-8"""),
    ],
)
def test_a_broken_file_is_an_error(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BTCChatError, match=message):
        Records(path, tmp_path)


def test_a_missing_annotation_file_is_an_error(tmp_path):
    with pytest.raises(BTCChatError, match="nowhere.json does not exist"):
        Records(tmp_path / "nowhere.json", tmp_path)


def test_a_missing_annotation_file_names_the_command_that_writes_it(tmp_path):
    words = "rows.jsonl does not exist; write it with btcchat data convert, or check --data_root and the mixture's YAML"
    with pytest.raises(BTCChatError, match=words):
        Records(tmp_path / "rows.jsonl", tmp_path)
