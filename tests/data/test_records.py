"""Annotation files: what is read lazily, and what each bad row says."""

import json

import pytest

from btcchat.data.mixture import build_datasets, parse_mixture
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


def test_blank_lines_are_no_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(f"\n{json.dumps(ROWS[0])}\n\n{json.dumps(ROWS[1])}", encoding="utf-8")
    records = Records(path, tmp_path)
    assert [records[0].modality, records[1].modality] == ["pair", "image"]


BAD = {
    "levir_cc.json row 2: 1 image, a pair needs 2 (before, after)": row(images=["a.png"]),
    "levir_cc.json row 2: 3 images, a pair needs 2 (before, after)": row(images=["a", "b", "c"]),
    "levir_cc.json row 2: 17 images, a series needs 2 to 16 (one a date)": row(modality="series", images=["a"] * 17),
    "levir_cc.json row 2: 0 images, an image needs 1": row(modality="image", images=[]),
    "levir_cc.json row 2: 2 images, a text needs none": row(modality="text"),
    "levir_cc.json row 2: no 'modality'": row(modality=None),
    "levir_cc.json row 2: unknown modality 'pairs' (did you mean 'pair'?)": row(modality="pairs"),
    "levir_cc.json row 2: unknown modality '['pair']'": row(modality=["pair"]),
    "levir_cc.json row 2: both 'image' and 'images'": row(image="a.png"),
    "levir_cc.json row 2: 7 in 'images', expected a path": row(images=["a.png", 7]),
    "levir_cc.json row 2: a 'video' path, but modality 'pair'": row(images=None, video="a.mp4"),
    "levir_cc.json row 2: 1 dates, expected one for each image": row(dates=["2010"]),
    "levir_cc.json row 2: 'dates' is a str": row(dates="10"),
    "levir_cc.json row 2: 'clue' is a int": row(clue=3),
    "levir_cc.json row 2: no 'conversations'": row(conversations=None),
    "levir_cc.json row 2: turn 1 is not": row(conversations=[{"from": "bot", "value": "hi"}]),
    "levir_cc.json row 2: no answer": row(conversations=[TALK[0], {"from": "gpt", "value": " "}]),
    "levir_cc.json row 2: a list, a record is a JSON object": [],
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
        ("r.jsonl", '{"modality": "text"', "r.jsonl row 1: not JSON"),
        ("r.json", '[{"a": 1', "r.json row 1: not JSON"),
        ("r.json", "[]", "has no records"),
        ("r.jsonl", "", "has no records"),
        ("r.json", f"[{json.dumps(ROWS[0])} {json.dumps(ROWS[0])}]", "row 1: followed by neither"),
        ("r.json", f"[{json.dumps(ROWS[0])}", "row 1: followed by neither"),
        ("r.jsonl", b"\xff\xfe", "row 1: not JSON"),
        ("r.json", b'["\xff"]', "r.json: not UTF-8"),
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


# Mixtures ------------------------------------------------------------------------------------------------------------


def test_a_mixture_lists_its_terms():
    assert parse_mixture("a+b*3 + a") == [("a", 1), ("b", 3), ("a", 1)]


@pytest.mark.parametrize("mixture", ["", "a+", "a*", "a*0", "a*x", "*3", "a*-1"])
def test_a_mixture_that_cannot_be_read_is_an_error(mixture):
    with pytest.raises(BTCChatError, match="is not a set's name"):
        parse_mixture(mixture)


@pytest.fixture
def sets(tmp_path):
    for name in ("one", "two"):
        rows = [row(id=f"{name}{i}", modality="text", images=None) for i in range(3)]
        rows[0]["conversations"] = [TALK[0], {"from": "gpt", "value": name}]
        written(tmp_path / f"{name}.jsonl", rows, lines=True)
    (tmp_path / "sets.yaml").write_text(
        "one: {annotation: one.jsonl, images: .}\ntwo: {annotation: two.jsonl, images: ., license: CC0-1.0, gsd: 0.5}\n"
    )
    return tmp_path


def test_a_set_named_three_times_counts_three_times(sets):
    mixture = build_datasets("one+two*3", lambda r: {"where": r.where}, data_root=sets, folder=sets)
    assert len(mixture) == 12
    assert [mixture[i]["where"] for i in (0, 2, 3, 11)] == [
        "one.jsonl row 1",
        "one.jsonl row 3",
        "two.jsonl row 1",
        "two.jsonl row 3",
    ]
    with pytest.raises(IndexError):
        mixture[12]
    lengths = mixture.lengths(lambda modality, frames, characters: characters)
    answers = ["one", *["a house"] * 2, *["two", *["a house"] * 2] * 3]
    assert list(lengths) == [len(TALK[0]["value"]) + len(answer) for answer in answers]


def test_an_unknown_set_lists_the_choices(sets):
    with pytest.raises(BTCChatError, match=r"unknown data set 'tow' \(did you mean 'two'\?\); choose from one, two"):
        build_datasets("one+tow", dict, data_root=sets, folder=sets)


def test_data_root_comes_from_the_flag_or_the_environment(sets, monkeypatch):
    monkeypatch.delenv("BTCCHAT_DATA", raising=False)
    with pytest.raises(BTCChatError, match="--data_root"):
        build_datasets("one", dict, folder=sets)
    monkeypatch.setenv("BTCCHAT_DATA", str(sets))
    assert len(build_datasets("one", dict, folder=sets)) == 3


def test_a_fault_while_making_a_sample_names_the_record(sets):
    def fails(record):
        raise BTCChatError("no such image")

    with pytest.raises(BTCChatError, match="^two.jsonl row 2: no such image$"):
        build_datasets("one+two", fails, data_root=sets, folder=sets)[4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one: {annotation: x, images: .}", "'one' is described twice"),
        ("three: {annotation: x}", "'three' must give annotation, images"),
        ("three: {annotation: x, images: ., lisence: CC0}", "'three' must give annotation, images and may give"),
        ("three: [", "is not YAML"),
        ("- three", "names no data sets"),
    ],
)
def test_a_bad_description_of_sets_is_an_error(sets, text, message):
    (sets / "user.yaml").write_text(text)
    with pytest.raises(BTCChatError, match=message):
        build_datasets("one", dict, data_root=sets, folder=sets)


def test_the_shipped_sets_can_be_described():
    from btcchat.data.mixture import known_sets, mixture_folder

    known = known_sets(mixture_folder())
    assert {f"synthetic_{kind}" for kind in ("align", "image", "pair", "series", "video")} <= set(known)
