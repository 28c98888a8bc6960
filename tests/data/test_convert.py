"""Published layouts become our records: each on a miniature, LEVIR-CC on real files; each bad row is reported."""

import json
import shutil
import subprocess
import sys

import pytest
import yaml
from PIL import Image

from btcchat import cli
from btcchat.data.convert import CONVERTERS, BadRows, convert, read
from btcchat.data.convert.base import CHANGE_QUESTION
from btcchat.data.mixture.mixture import build_datasets, known_sets, mixture_folder
from btcchat.data.mixture.terms import of_split
from btcchat.data.records import Records
from btcchat.errors import BTCChatError
from tests.layouts import GEOCHAT, LAYOUTS, karpathy, write_json

CAPTIONS = [f"house {k} ." for k in range(5)]


@pytest.fixture
def make(tmp_path):
    """make(kind) -> the folder of its miniature."""

    def made(kind: str):
        root = tmp_path / f"{kind} as published"
        root.mkdir()
        LAYOUTS[kind](root)
        return root

    return made


def rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def asked(question: str, answer: str) -> list[dict]:
    return [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]


def pair(name: str, before: str, after: str, captions=CAPTIONS, **more) -> dict:
    talk = asked(CHANGE_QUESTION, captions[0])
    record = {"id": name, "modality": "pair", "images": [before, after], "captions": captions, "conversations": talk}
    return record | more


def question(number: int, **media) -> dict:
    talk = asked("Is it wet?", ["yes", "no"][number % 2])
    return {"id": str(number), **media, "question_type": "presence", "conversations": talk}


UNIRS_TALK = [{"from": "human", "value": "<image>\n<image>\nWhat is new?"}, {"from": "gpt", "value": "a house"}]
SPLITS = {  # kind -> split -> number of records
    "levir_cc": {"train": 2, "val": 1, "test": 1},
    "levir_mci": {"train": 2, "val": 1, "test": 1},
    "whu_cdc": {"train": 2, "val": 1, "test": 1},
    "dubai_cc": {"train": 1, "val": 1, "test": 1},
    "second_cc": {"train": 1, "val": 1, "test": 1},
    "geochat_instruct": {"train": 3},
    "rsvqa_lr": {"train": 2, "val": 2, "test": 2},
    "rsvqa_hr": {"train": 2, "val": 2, "test": 2, "test_phili": 2},
    "cdvqa": {"train": 2, "val": 2, "test": 2, "test2": 2},
    "crsvqa": {"all": 3},
    "era": {"train": 2, "test": 1},
    "ccexpert": {"LevirCCcaptions_train_universal": 2},
    "unirs": {"LEVIR_CC_Train_Plus": 6},
}
EXAMPLES = {  # kind, split, place -> the record
    ("levir_cc", "train", 1): pair(
        "train_000002", "images/train/A/train_000002.png", "images/train/B/train_000002.png", change_flag=1
    ),
    ("levir_mci", "val", 0): pair(
        "val_000001", "images/val/A/val_000001.png", "images/val/B/val_000001.png", change_flag=1,
        mask="images/val/label/val_000001.png",
    ),
    ("whu_cdc", "test", 0): pair(
        "test_000001", "images/test/A/test_000001.png", "images/test/B/test_000001.png", change_flag=1,
        mask="images/test/label/test_000001.png",
    ),
    ("dubai_cc", "val", 0): pair(
        "1", "imgs_tiles/RGB/500_2000/1.tif", "imgs_tiles/RGB/500_2010/1.tif", ["A road appears."]
    ),
    ("second_cc", "val", 0): pair(
        "00011", "val/rgb/A/00011.png", "val/rgb/B/00011.png", change_flag=1,
        semantic_maps=["val/sem/A/00011.png", "val/sem/B/00011.png"],
    ),
    ("geochat_instruct", "train", 2): {
        "id": "P0001", "modality": "image", "image": f"{GEOCHAT}/P0001.png",
        "conversations": asked("[refer] a ship", "{<1><2><3><4>|<5>}"),
    },
    ("rsvqa_lr", "val", 1): question(3, modality="image", image="Images_LR/1.tif"),
    ("rsvqa_hr", "test_phili", 0): question(6, modality="image", image="Data/3.tif"),
    ("cdvqa", "test2", 1): question(7, modality="pair", images=["im1/00003.png", "im2/00003.png"]),
    ("crsvqa", "all", 0): {
        "id": "2-1", "modality": "image", "image": "data/image/2.png",
        "conversations": asked("What is the scene?", "airport"),
    },
    ("crsvqa", "all", 2): {
        "id": "10-2", "modality": "image", "image": "data/image/10.png", "conversations": asked("Is it?", "yes"),
    },
    ("era", "train", 0): {
        "id": "Fire_2", "modality": "video", "video": "Tra/Fire_2.mp4", "label": "Fire",
        "conversations": asked("Which event does this aerial video show?", "fire"),
    },
    ("era", "train", 1): {
        "id": "TrafficCollision_001", "modality": "video", "label": "TrafficCollision",
        "video": "Tra/TrafficCollision/TrafficCollision_001.mp4",
        "conversations": asked("Which event does this aerial video show?", "traffic collision"),
    },
    ("ccexpert", "LevirCCcaptions_train_universal", 0): pair(
        "levir_1", "LEVIR/A/1.png", "LEVIR/B/1.png", ["a house appears", "a building is there"], change_flag=1
    ),
    ("ccexpert", "LevirCCcaptions_train_universal", 1): pair(  # absolute paths in the file
        "2", "LEVIR/A/1.png", "LEVIR/B/1.png", ["a house appears", "a building is there"], change_flag=1
    ),
    ("unirs", "LEVIR_CC_Train_Plus", 0): {
        "id": "a", "modality": "pair", "images": ["A/1.png", "B/1.png"], "conversations": UNIRS_TALK,
    },
    ("unirs", "LEVIR_CC_Train_Plus", 1): {
        "id": "a", "modality": "pair", "images": ["A/1.png", "B/1.png"], "conversations": UNIRS_TALK,
    },
    ("unirs", "LEVIR_CC_Train_Plus", 2): {
        "modality": "image", "image": "A/1.png", "conversations": UNIRS_TALK, "clue": "farmland",
    },
    ("unirs", "LEVIR_CC_Train_Plus", 3): {"modality": "image", "image": "A/1.png", "conversations": UNIRS_TALK},
    ("unirs", "LEVIR_CC_Train_Plus", 4): {
        "modality": "video", "video": "Tra/Fire_2.mp4", "conversations": UNIRS_TALK,
    },
    ("unirs", "LEVIR_CC_Train_Plus", 5): {"modality": "text", "conversations": UNIRS_TALK},
}  # fmt: skip


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_published_layout_becomes_records_split_by_split(make, tmp_path, kind):
    src, seen = make(kind), []
    out = tmp_path / "annotations" / kind
    assert convert(kind, src, out, progress=lambda *at: seen.append(at)) == SPLITS[kind]
    total = sum(SPLITS[kind].values())
    assert seen == [(done, total) for done in range(1, total + 1)]
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{split}.jsonl" for split in SPLITS[kind])
    examples = [(split, place, record) for (of, split, place), record in EXAMPLES.items() if of == kind]
    assert examples
    for split, place, record in examples:
        assert rows(out / f"{split}.jsonl")[place] == record
    for split, count in SPLITS[kind].items():
        assert len(Records(out / f"{split}.jsonl", src)) == count


def shipped() -> dict[str, dict]:
    """Every split of the described sets of a published kind."""
    known = {name: entry for name, entry in known_sets(mixture_folder()).items() if "kind" in entry}
    return dict(of_split(name, entry, s, "") for name, entry in known.items() for s in entry.get("splits", [""]))


@pytest.mark.parametrize("name", shipped())
def test_a_described_data_set_is_there_once_it_is_converted(tmp_path, name):
    """Its folder of images is SRC, its annotation file one that the conversion writes."""
    entry = shipped()[name]
    src, annotation = tmp_path / entry["images"], tmp_path / entry["annotation"]
    assert annotation.parent == tmp_path / "annotations" / entry["kind"]
    src.mkdir(parents=True)
    LAYOUTS[entry["kind"]](src)
    published = {"unirs": "LEVIR_CC_Train_Plus.json", "ccexpert": "LevirCCcaptions_train_universal.json"}
    if entry["kind"] in published:  # a file of any name is a split of that name
        (src / published[entry["kind"]]).rename(src / f"{annotation.stem}.json")
    convert(entry["kind"], src, annotation.parent, splits=[annotation.stem])
    mixture = build_datasets(name, lambda record: record, data_root=tmp_path)
    assert len(mixture) == len(rows(annotation)) > 0
    assert {"license", "citation", "source"} <= set(entry)


def test_every_kind_but_no_other_is_described():
    assert {entry["kind"] for entry in shipped().values()} == set(CONVERTERS) - {"generic"} == set(LAYOUTS)


def test_a_pair_is_asked_about_as_the_caption_command_asks():
    from btcchat.checkpoint.config import BTCChatConfig

    assert BTCChatConfig().caption_question == CHANGE_QUESTION


def test_the_real_levir_cc_is_converted(shared, tmp_path):
    src = shared / "data" / "levir_cc_subset"
    assert convert("levir_cc", src, tmp_path) == {"train": 431, "val": 94}
    records = Records(tmp_path / "val.jsonl", src)
    assert len(records) == 94
    first = rows(tmp_path / "val.jsonl")[0]
    assert len(first["captions"]) == 5 and first["change_flag"] in (0, 1)
    assert records[0].sources == [str(src / path) for path in first["images"]]
    assert first["mask"] == f"images/val/label/{first['id']}.png"  # which this copy has


def test_the_masks_of_the_real_pairs_are_found(shared, tmp_path):
    src = shared / "data" / "levir_cc_subset"
    assert convert("levir_mci", src, tmp_path, splits=["val"]) == {"val": 94}
    record = rows(tmp_path / "val.jsonl")[0]
    assert record["mask"] == f"images/val/label/{record['id']}.png" and (src / record["mask"]).is_file()


def test_only_the_wanted_splits_are_read_and_written(make, tmp_path):
    src = make("levir_cc")
    (src / "images/train/A/train_000001.png").unlink()  # not asked for
    assert convert("levir_cc", src, tmp_path / "out", splits=["val", "test"]) == {"val": 1, "test": 1}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["test.jsonl", "val.jsonl"]


def test_images_may_lie_elsewhere(make, tmp_path):
    src, second = make("cdvqa"), tmp_path / "SECOND"
    (second / "train").mkdir(parents=True)
    for date in ("im1", "im2"):
        (src / date).rename(second / "train" / date)
    convert("cdvqa", src, tmp_path / "out", images=second)
    assert rows(tmp_path / "out" / "val.jsonl")[0]["images"] == ["train/im1/00001.png", "train/im2/00001.png"]


def test_an_id_may_come_again_in_another_split(make, tmp_path):
    src = make("second_cc")
    for folder in ("rgb/A", "rgb/B", "sem/A", "sem/B"):
        (src / "val" / folder / "00011.png").rename(src / "val" / folder / "00003.png")
    content = json.loads((src / "SECOND-CC-AUG.json").read_text().replace("00011", "00003"))
    write_json(src / "SECOND-CC-AUG.json", content)
    assert convert("second_cc", src, tmp_path / "out")["val"] == 1


# -- bad rows --------------------------------------------------------------------------------------------------------


@pytest.fixture
def bad(make):
    """LEVIR-MCI with a fault of each sort; the lines that tell them."""
    src = make("levir_mci")
    content = json.loads((src / "LevirCCcaptions.json").read_text())
    images = content["images"]
    images += (
        json.loads(json.dumps(images[:1])) + karpathy({"a.png": "train", "b.png": "val", "c.png": "val"})["images"]
    )
    images[5]["sentences"][3]["raw"] = "  "
    del images[6]["filename"]
    images[7]["sentences"] = "none"
    write_json(src / "LevirCCcaptions.json", content)
    folder = src / "images"
    (folder / "train/A/train_000001.png").unlink()
    (folder / "val/label/val_000001.png").unlink()
    (folder / "test/B/test_000001.png").write_bytes((folder / "test/B/test_000001.png").read_bytes()[:60])
    (folder / "train/B/train_000002.png").write_text("not an image")
    return src, [
        f"LevirCCcaptions.json row 1: image '{folder}/train/A/train_000001.png' not found (and in 1 more row)",
        f"LevirCCcaptions.json row 2: '{folder}/train/B/train_000002.png' is not an image that can be read "
        "(PNG, JPEG, TIFF, JPEG 2000, WebP, BMP, GIF, AVIF, PPM)",
        f"LevirCCcaptions.json row 3: image '{folder}/val/label/val_000001.png' not found",
        f"LevirCCcaptions.json row 4: image '{folder}/test/B/test_000001.png' (32 x 32) is truncated or damaged: ",
        "LevirCCcaptions.json row 5: the id 'train_000001' is already used by row 1",
        "LevirCCcaptions.json row 6: caption 4 is empty",
        "LevirCCcaptions.json row 7: no 'filename'; found filepath, imgid, split, changeflag, sentences",
        "LevirCCcaptions.json row 8: 'sentences' is a string, expected a list",
    ]


def assert_reported(lines: list[str], expected: list[str]) -> None:
    assert len(lines) == len(expected)
    for line, start in zip(lines, expected, strict=True):
        assert line == start or (start.endswith(": ") and line.startswith(start))


def test_every_bad_row_is_reported_and_nothing_is_written(bad, tmp_path):
    src, expected = bad
    with pytest.raises(BadRows) as caught:
        convert("levir_mci", src, tmp_path / "new" / "out")
    assert_reported(caught.value.faults, expected)
    assert str(caught.value) == f"{caught.value.faults[0]} (and 7 more); nothing was written"
    assert not (tmp_path / "new").exists()


def test_the_command_names_the_bad_rows_and_returns_2(bad, tmp_path, capsys):
    src, expected = bad
    (tmp_path / "out").mkdir()
    assert cli.main(["data", "convert", "levir_mci", str(src), str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    *lines, last = err.splitlines()
    named = [
        *("row: a row that cannot be converted (3)", *expected[5:8]),
        *("id: an id that an earlier row already has (1)", expected[4]),
        *("missing: a file that does not exist (2)", expected[0], expected[2]),
        *("unreadable: a file that cannot be decoded (2)", expected[1], expected[3]),
    ]
    assert_reported([line.strip() for line in lines], named)
    assert last == "btcchat: error: 8 faults (listed above); nothing was written" and not out
    assert list((tmp_path / "out").iterdir()) == []


def test_the_first_faults_of_a_kind_are_named_and_the_rest_counted(make, tmp_path, capsys):
    src = make("levir_cc")
    for image in (src / "images").rglob("*.png"):
        image.unlink()
    command = ["data", "convert", "levir_cc", str(src), str(tmp_path / "out")]
    assert cli.main([*command, "--faults", "2"]) == 2
    head, *named, more, last = capsys.readouterr().err.splitlines()
    count = len(named) + int(more.split()[1])
    assert head == f"missing: a file that does not exist ({count})" and len(named) == 2 < count
    assert more == f"  and {count - 2} more (--faults N lists more)"
    assert last == f"btcchat: error: {count} faults (listed above); nothing was written"
    assert cli.main([*command, "--faults", "99"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == count + 2


def test_a_conversion_into_a_log_prints_its_progress(make, tmp_path, capsys, every_step):
    assert cli.main(["data", "convert", "levir_cc", str(make("levir_cc")), str(tmp_path / "out")]) == 0
    assert "btcchat: 1 of 4 rows (25 %), " in capsys.readouterr().err


FLAG = '"split": "train", "changeflag": 1'
ROW_FAULTS = {  # kind, file, old, new -> the line
    ("unirs", "LEVIR_CC_Train_Plus.json", '"A/1.png###B/1.png"', '"A/1.png###B/1.png###A/1.png"'):
        "LEVIR_CC_Train_Plus.json row 2: 3 paths in 'image', expected 1 (an image) or 2 (before, after)",
    ("unirs", "LEVIR_CC_Train_Plus.json", '["A/1.png"]', "[7]"):
        "LEVIR_CC_Train_Plus.json row 4: 'image' is [7], expected a path, two paths, or 'a###b'",
    ("unirs", "LEVIR_CC_Train_Plus.json", '"clue": "farmland"', '"clue": 3'):
        "LEVIR_CC_Train_Plus.json row 3: 'clue' is a number, expected a string",
    ("unirs", "LEVIR_CC_Train_Plus.json", '"clue": "farmland"', '"mask": 7'):
        "LEVIR_CC_Train_Plus.json row 3: 'mask' is 7, expected a path",
    ("unirs", "LEVIR_CC_Train_Plus.json", '"clue": "farmland"', '"semantic_maps": ["A/1.png", {"size": 2}]'):
        "LEVIR_CC_Train_Plus.json row 3: 'semantic_maps' is {'size': 2}, expected a path",
    ("unirs", "LEVIR_CC_Train_Plus.json", '{"video"', '{"image": "A/1.png", "video"'):
        "LEVIR_CC_Train_Plus.json row 5: both 'image' and 'video', expected one of them",
    ("ccexpert", "LevirCCcaptions_train_universal.json", '"uid": 2', '"uid": null'):
        "LevirCCcaptions_train_universal.json row 2: 'uid' is null, expected a string",
    ("ccexpert", "LevirCCcaptions_train_universal.json", '"uid": 2', '"uid": "levir_1"'):
        "LevirCCcaptions_train_universal.json row 2: the id 'levir_1' is already used by row 1",
    ("geochat_instruct", "GeoChat_Instruct.json", '"from": "gpt"', '"from": "bot"'):
        "GeoChat_Instruct.json row 1: turn 2 is not {'from': 'human' | 'gpt', 'value': text}",
    ("rsvqa_lr", "LR_split_val_questions.json", '"answers_ids": [3]', '"answers_ids": [4]'):
        "LR_split_val_questions.json row 4: answers_ids is [4], expected an active answer of LR_split_val_answers.json",
    ("cdvqa", "Val_questions.json", '"img_id": 1', '"img_id": 9'):
        "Val_questions.json row 3: img_id 9 is not in Val_images.json",
    ("crsvqa", "data/text/10.txt", "yes", ""): "10.txt row 2: 'Is it?' has no answer; "
    "questions and answers must alternate",
    ("levir_cc", "LevirCCcaptions.json", f'"imgid": 0, {FLAG}, "sentences"', f'"imgid": 0, {FLAG}, "nothing"'):
        "LevirCCcaptions.json row 1: no 'sentences'; found filepath, filename, imgid, split, changeflag, nothing",
}  # fmt: skip


@pytest.mark.parametrize("where, line", ROW_FAULTS.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_malformed_row_is_reported(make, tmp_path, where, line):
    kind, name, old, new = where
    src = make(kind)
    text = (src / name).read_text(encoding="utf-8")
    assert old in text
    (src / name).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(BadRows) as caught:
        convert(kind, src, tmp_path / "out")
    assert caught.value.faults == [line]


def test_an_impossible_file_name_is_reported(make, tmp_path):
    src = make("unirs")
    path = src / "LEVIR_CC_Train_Plus.json"
    path.write_text(path.read_text().replace('"clue": "farmland"', f'"mask": "{"m" * 5000}"'))
    with pytest.raises(BadRows) as caught:
        convert("unirs", src, tmp_path / "out")
    (line,) = caught.value.faults
    assert line.startswith("LEVIR_CC_Train_Plus.json row 3: image '") and line.endswith("read: File name too long")


def test_a_video_that_does_not_decode_is_reported(make, tmp_path):
    src = make("era")
    (src / "Test/NonEvent/a.mp4").write_bytes(b"no video")
    with pytest.raises(BadRows) as caught:
        convert("era", src, tmp_path / "out")
    (line,) = caught.value.faults
    assert line.startswith(f"Test/NonEvent/a.mp4: video '{src}/Test/NonEvent/a.mp4' cannot be decoded")


def test_an_id_that_two_files_share_is_reported(make, tmp_path):
    src = make("era")
    (src / "Tra/Fire").mkdir()
    (src / "Tra/Fire/Fire_2.mp4").write_bytes((src / "Tra/Fire_2.mp4").read_bytes())
    with pytest.raises(BadRows) as caught:
        convert("era", src, tmp_path / "out")
    assert caught.value.faults == ["Tra/Fire_2.mp4: the id 'Fire_2' is already used by Tra/Fire/Fire_2.mp4"]


# -- flag, captions and masks ------------------------------------------------------------------------------------------


DISAGREE = [  # of the case's levir_mci
    "LevirCCcaptions.json row 1: changed according to mask, unchanged according to change_flag and captions",
    "LevirCCcaptions.json row 2: changed according to change_flag and captions, unchanged according to mask",
]


@pytest.mark.parametrize(
    ("kind", "folder", "faults"),
    [
        ("levir_mci", "mci", DISAGREE),
        (
            "levir_cc",
            "flag",
            [
                "LevirCCcaptions.json row 1: changed according to change_flag, unchanged according to captions",
                "LevirCCcaptions.json row 2: changed according to captions, unchanged according to change_flag",
            ],
        ),
    ],
)
def test_pairs_whose_flag_captions_and_mask_disagree_are_kept_and_returned(shared, tmp_path, kind, folder, faults):
    src = shared / "cases/12-flag-mask-captions-disagree" / folder
    converted = convert(kind, src, tmp_path)
    assert list(map(str, converted.disagreements)) == faults
    assert converted == {"train": len(rows(tmp_path / "train.jsonl"))} == {"train": 3 if folder == "mci" else 2}


def test_pairs_that_disagree_are_left_out_or_stop_the_conversion_if_requested(shared, tmp_path, capsys):
    src, out = shared / "cases/12-flag-mask-captions-disagree/mci", tmp_path / "out"
    words = ["data", "convert", "levir_mci", str(src), str(out), "--disagreement"]
    head = "disagreement: a pair whose change_flag, captions and mask contradict each other (2)"
    assert cli.main([*words, "stop"]) == 2 and not out.exists()
    *lines, last = capsys.readouterr().err.splitlines()
    assert [line.strip() for line in lines] == [head, *DISAGREE]
    assert last == "btcchat: error: 2 faults (listed above); nothing was written"
    assert cli.main([*words, "drop"]) == 0
    *lines, left_out, last = capsys.readouterr().err.splitlines()
    assert [line.strip() for line in lines] == [head, *DISAGREE]
    assert left_out == "btcchat: 2 pairs listed above left out"
    assert last == f"btcchat: 1 train records written to {out}"
    assert [row["id"] for row in rows(out / "train.jsonl")] == ["train_000003"]
    assert cli.main([*words[:-1]]) == 2  # OUT is taken
    assert cli.main([*words, "ignore"]) == 2


def test_a_mask_that_two_rows_share_is_compared_with_both(shared, tmp_path):
    src = shutil.copytree(shared / "cases/12-flag-mask-captions-disagree/mci", tmp_path / "src")
    content = json.loads((src / "LevirCCcaptions.json").read_text())
    content["images"].insert(1, content["images"][0] | {"split": "val"})
    write_json(src / "LevirCCcaptions.json", content)
    assert [fault.where[-1] for fault in convert("levir_mci", src, tmp_path / "out").disagreements] == ["1", "2", "3"]


# -- faults of the data set ------------------------------------------------------------------------------------------


def test_a_fault_of_the_whole_data_set_is_a_one_line_error(make, tmp_path):
    src, out = make("levir_cc"), tmp_path / "out"

    def line(kind="levir_cc", src=src, out=out, **more) -> str:
        with pytest.raises(BTCChatError) as caught:
            convert(kind, src, out, **more)
        assert not out.exists()
        return str(caught.value)

    assert line(kind="levir").startswith("unknown converter 'levir' (did you mean 'levir_")
    assert (
        line(src=tmp_path / "no")
        == f"{tmp_path}/no does not exist; give the folder of the data set, or its annotation file"
    )
    assert line(splits=["tset"]) == f"no split 'tset' in {src}; choose from test, train, val"
    assert line(images=tmp_path / "no").startswith(f"--images {tmp_path}/no is not a folder")
    assert line("second_cc") == f"no SECOND-CC-AUG.json in {src}; give the folder that contains it, or the file itself"
    assert line("rsvqa_hr") == f"no USGS_split_*_questions.json in {src}; give the folder that contains them"
    assert line("era").startswith(f"{src} has no folder for a split; expected Train/CLASS/*.mp4")
    assert line("dubai_cc") == f"no description_jsontr_te_val/*.json in {src}; give the folder that contains such files"
    text = (src / "LevirCCcaptions.json").read_text()
    for old, new, expected in (
        (text, text[: len(text) // 2], "LevirCCcaptions.json row 3: not JSON ("),
        (text, '{"info": [1, {}]}', "LevirCCcaptions.json: no 'images'; expected {'images': [...]}"),
        (text, '{"images": [7]}', "LevirCCcaptions.json row 1: a number, expected an object"),
        (text, '{"images": []}', f"{src} has no rows"),
        ('"val"', '"../val"', "LevirCCcaptions.json row 3: '../val' is not a valid name for a split"),
        ('"val"', '""', "LevirCCcaptions.json row 3: no 'split'"),
    ):
        (src / "LevirCCcaptions.json").write_text(text.replace(old, new))
        assert line().startswith(expected)
        assert line().endswith("; correct the file or get it again") == ("not JSON" in expected)


@pytest.mark.parametrize(
    ("kind", "name"), [("levir_cc", "LevirCCcaptions.json"), ("crsvqa", "data/text/10.txt"), ("generic", "rows.jsonl")]
)
def test_a_file_that_is_not_utf8_says_how_to_save_it(make, tmp_path, kind, name):
    src = tmp_path / "rows.jsonl" if kind == "generic" else make(kind)
    path = src if kind == "generic" else src / name
    path.write_bytes(b"\n" * 2**15 + b'["Caf\xe9"]')  # several blocks of a file that is read in pieces
    with pytest.raises(BTCChatError, match=r"not UTF-8 (near .*Caf.xe9|\(byte 6).*; save it as UTF-8") as error:
        convert(kind, src, tmp_path / "out", mapping={"answer": "a", "image": "i"} if kind == "generic" else None)
    assert path.name in str(error.value)


def test_an_existing_file_is_not_overwritten(make, tmp_path):
    src, out = make("levir_cc"), tmp_path / "out"
    convert("levir_cc", src, out, splits=["val"])
    before = (out / "val.jsonl").read_bytes()
    with pytest.raises(BTCChatError, match="val.jsonl already exists; remove it or choose another OUT"):
        convert("levir_cc", src, out)
    assert [path.name for path in out.iterdir()] == ["val.jsonl"] and (out / "val.jsonl").read_bytes() == before
    convert("levir_cc", src, out, splits=["train"])  # another split can be added to the folder
    (tmp_path / "file").write_text("")
    with pytest.raises(BTCChatError, match="file/out cannot be written: "):
        convert("levir_cc", src, tmp_path / "file" / "out")


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
@pytest.mark.parametrize("large", ["train", "val"])
def test_a_full_disk_leaves_no_split_of_a_conversion(tmp_path, large):
    """A limit on file size, which is only reached when the files are closed."""
    script = (
        "import resource, signal, sys; from btcchat.data.convert.write import write_splits\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (150, 150))\n"
        "with write_splits(sys.argv[1], ['train', 'val']) as write:\n"
        "    write('train', {}); write('val', {}); write(sys.argv[2], {'a': 'x' * 200})"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "new" / "out"), large]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "new/out cannot be written: File too large" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_conversion_leaves_nothing(make, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert("levir_cc", make("levir_cc"), tmp_path / "out", progress=stop)
    assert not (tmp_path / "out").exists()


# -- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_rows_do_not_depend_on_where_the_file_is_split_for_reading(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(read, "CHUNK", chunk)
    content = [{"n": 10**k, "text": "å" * k, "list": [[], {"]": "},"}]} for k in range(9)]
    expected = list(enumerate(content, start=1))
    for name, key, text in (
        ("a.json", None, json.dumps(content, ensure_ascii=False, indent=2)),
        ("b.json", "rows", json.dumps({"info": {"rows": [1]}, "n": 12345, "rows": content, "after": 1})),
        ("c.jsonl", None, "\n\n".join(map(json.dumps, content))),
        ("d.json", None, "\ufeff [ ] "),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert list(read.json_rows(tmp_path / name, key)) == ([] if name == "d.json" else expected)


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_converts_and_says_what_it_wrote(make, tmp_path, capsys):
    src, out = make("levir_cc"), tmp_path / "out"
    assert cli.main(["data", "convert", "levir_cc", str(src), str(out), "--split", "val", "train"]) == 0
    assert capsys.readouterr() == ("", f"btcchat: 2 train, 1 val records written to {out}\n")


def test_the_kinds_are_listed(capsys):
    assert cli.main(["data", "convert", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(CONVERTERS)
    assert lines[0] == "levir_cc          LEVIR-CC: change captions of 10,077 pairs in Texas, five each"


def test_missing_arguments_are_reported(capsys):
    assert cli.main(["data", "convert", "levir_cc", "somewhere"]) == 2
    assert capsys.readouterr().err.endswith("btcchat: error: data convert needs KIND SRC OUT, or --list\n")


def test_converting_needs_no_torch(make, tmp_path):
    code = "import sys; from btcchat.cli import main; assert main(sys.argv[1:]) == 0; assert 'torch' not in sys.modules"
    words = ["data", "convert", "levir_cc", str(make("levir_cc")), str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_grey_and_16_bit_images_are_accepted(make, tmp_path):
    src = make("rsvqa_lr")
    Image.new("I;16", (32, 32), 3000).save(src / "Images_LR/0.tif")
    assert convert("rsvqa_lr", src, tmp_path / "out")["train"] == 2


def test_the_documented_recipe_is_the_shipped_data_set():
    entry = yaml.safe_load((mixture_folder() / "change_captions.yaml").read_text(encoding="utf-8"))["levir_cc"]
    recipe = (mixture_folder().parent / "docs" / "training.md").read_text(encoding="utf-8")
    assert f"btcchat data convert levir_cc {entry['images']} annotations/levir_cc\n" in recipe
    assert "--data_mixture levir_cc " in recipe


def test_two_conversions_do_not_write_to_one_folder_at_once(make, tmp_path):
    from btcchat.data.convert.write import write_splits

    with write_splits(tmp_path / "new" / "out", ["train"]) as write:
        write("train", {"a": 1})
        with (
            pytest.raises(BTCChatError, match="is being written by process"),
            write_splits(tmp_path / "new/out", ["val"]),
        ):
            pass
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == ["train.jsonl"]
