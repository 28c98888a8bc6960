"""Clues on disk: looked up by the content of images, resumed after a kill, refused if another model wrote them."""

import json
import os
import shutil

import pytest
from PIL import Image

from btcchat.clues.store import Clues, ClueWriter, check_flags
from btcchat.data.records import Record
from btcchat.errors import BTCChatError
from btcchat.media.reading import Reading
from btcchat.media.source import Embedded

ABOUT = {"model": "base", "identity": "a" * 64, "questions": {"pair": "What is new?"}, "max_new_tokens": 64}
COLOURS = {"a": (200, 0, 0), "b": (0, 200, 0), "c": (0, 0, 200)}


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (8, 8), colour).save(folder / f"{name}.png")
    return folder


def sources(images, names: str) -> list[str]:
    return [str(images / f"{name}.png") for name in names]


def record(images, names: str, row: int = 1, clue: str | None = None) -> Record:
    return Record(f"rows.jsonl row {row}", "pair", sources(images, names), [], clue=clue)


@pytest.fixture
def written(tmp_path, images):
    with ClueWriter(tmp_path / "clues", ABOUT) as writer:
        writer.add([("pair", sources(images, "ab"), "a house – new"), ("pair", sources(images, "ba"), "")])
    return tmp_path / "clues"


def test_a_clue_is_looked_up_by_the_content_of_the_images(tmp_path, written, images):
    clues = Clues(written)
    assert clues.of("pair", sources(images, "ab")) == "a house – new"
    assert clues.of("pair", sources(images, "ba")) == ""  # the model was asked, and answered nothing
    assert clues.find("pair", sources(images, "bc")) is None
    assert clues.find("series", sources(images, "ab")) is None  # it was asked as a pair
    assert (len(clues), clues.empty) == (2, 1)
    shutil.move(images, tmp_path / "elsewhere")
    assert clues.of("pair", sources(tmp_path / "elsewhere", "ab")) == "a house – new"


def test_a_file_with_a_known_hash_is_not_read_again(written, images, monkeypatch):
    monkeypatch.setattr("btcchat.data.mixture.hashes.file_hash", lambda path: pytest.fail(f"{path} was read"))
    assert Clues(written).of("pair", sources(images, "ab")) == "a house – new"


def test_a_file_that_was_copied_over_itself_keeps_its_clue(written, images):
    os.utime(images / "a.png", ns=(1, 1))
    assert Clues(written).of("pair", sources(images, "ab")) == "a house – new"


def test_a_folder_of_frames_has_the_clue_of_its_frames(tmp_path, images):
    with ClueWriter(tmp_path / "clues", ABOUT) as writer:
        writer.add([("video", str(images), "a film")])
    clues = Clues(tmp_path / "clues")
    assert clues.of("video", str(images)) == clues.of("video", sources(images, "abc")) == "a film"
    Image.new("RGB", (8, 8)).save(images / "d.png")
    assert clues.find("video", str(images)) is None


def test_an_image_inside_another_file_has_the_clue_of_its_bytes(tmp_path, written, images):
    inside = [Embedded(f"{name} in a shard", (images / f"{name}.png").read_bytes()) for name in "ab"]
    assert Clues(written).of("pair", inside) == "a house – new"
    with ClueWriter(tmp_path / "other", ABOUT) as writer:
        writer.add([("pair", inside, "a clue")])
    assert Clues(tmp_path / "other").of("pair", sources(images, "ab")) == "a clue"
    with pytest.raises(BTCChatError, match=r"no clue for b in a shard, a in a shard \(pair\)"):
        Clues(tmp_path / "other").of("pair", inside[::-1])


def test_text_records_have_no_clue_and_need_none(written):
    clues = Clues(written)
    assert clues.of("text", []) == ""
    clues.check([Record("rows.jsonl row 1", "text", [], [])])


def test_missing_clues_are_counted_and_named(written, images):
    rows = [record(images, "ab"), *(record(images, "bc", row) for row in range(2, 9)), record(images, "ca", 9, "own")]
    with pytest.raises(BTCChatError) as error:
        Clues(written).check(rows)
    message = error.value.args[0]
    assert message.startswith("7 records have no clue: rows.jsonl row 2: no clue for ") and "\n" not in message
    assert "row 6: " in message and "row 7: " not in message and "(and 2 more)" in message
    assert message.endswith("run btcchat augment again with this folder as --out")


def test_the_error_distinguishes_a_changed_image_from_a_new_one(written, images):
    Image.new("RGB", (8, 8), "white").save(images / "b.png")
    clues = Clues(written)
    for _ in range(2):
        with pytest.raises(BTCChatError, match=r"b\.png has changed since its clue was written to "):
            clues.of("pair", sources(images, "ab"))
    with pytest.raises(BTCChatError, match=r"no clue for .*c\.png, .*a\.png \(pair\) in "):
        clues.of("pair", sources(images, "ca"))


def test_a_run_that_was_killed_resumes_after_its_last_whole_line(written, images, caplog):
    lines = (written / "clues.jsonl").read_text(encoding="utf-8")
    (written / "clues.jsonl").write_text(lines[:-10], encoding="utf-8")
    with ClueWriter(written, ABOUT) as writer:
        assert len(writer) == 1 and "cut short" in caplog.text
        writer.add([("pair", sources(images, "ba"), "again")])
    assert Clues(written).of("pair", sources(images, "ba")) == "again"
    assert [json.loads(line)["clue"] for line in (written / "clues.jsonl").open()] == ["a house – new", "again"]


def test_several_processes_write_a_file_each(written, images):
    with ClueWriter(written, ABOUT, writer=1) as writer:
        writer.add([("pair", sources(images, "bc"), "one"), ("pair", sources(images, "ca"), "two")])
    assert sorted(path.name for path in written.iterdir()) == ["clues-1.jsonl", "clues.json", "clues.jsonl"]
    assert len(Clues(written)) == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"identity": "b" * 64},
            "clues of the model base (aaaaaaaaaaaa), not of base (bbbbbbbbbbbb); choose another folder",
        ),
        ({"max_new_tokens": 8}, "has clues with max_new_tokens 64, not 8; choose another folder, or delete it"),
        ({"questions": {"pair": "Why?"}}, "has clues with questions {'pair': 'What is new?'}, not {'pair': 'Why?'}"),
    ],
)
def test_clues_of_another_model_or_asked_in_another_way_are_not_mixed(written, change, words):
    with pytest.raises(BTCChatError) as error:
        ClueWriter(written, ABOUT | change)
    assert words in str(error.value)


def test_clues_of_images_read_in_another_way_are_refused(tmp_path, written, images):
    assert len(Clues(written)) == 2  # clues.json of an older version does not say, and means the default
    with pytest.raises(BTCChatError, match="images read with the default --bands, --stretch and --nodata; read them"):
        Clues(written, reading=Reading(nodata="none"))
    reading = Reading(bands=(4, 3, 2), stretch=(0, 3000))
    with ClueWriter(tmp_path / "other", ABOUT | {"reading": reading.record()}) as writer:
        writer.add([("pair", sources(images, "ab"), "a house")])
    assert Clues(tmp_path / "other", reading=reading).of("pair", sources(images, "ab")) == "a house"
    with pytest.raises(BTCChatError, match="images read with --bands 4,3,2 --stretch 0,3000; read them in"):
        Clues(tmp_path / "other")
    (written / "clues.json").write_text(json.dumps(ABOUT | {"reading": "shared"}))
    with pytest.raises(BTCChatError, match="clues.json: reading is 'shared', expected a JSON object"):
        Clues(written)


def test_a_folder_that_holds_something_else_is_refused(tmp_path, written):
    with pytest.raises(BTCChatError, match="clues.json is missing; .* is not a folder of clues"):
        Clues(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BTCChatError, match="is a file; give a folder for the clues"):
        ClueWriter(tmp_path / "file", ABOUT)
    (written / "clues.json").write_text("[]")
    with pytest.raises(BTCChatError, match="clues.json holds a list, .*; write the clues again with btcchat augment"):
        Clues(written)
    (written / "clues.json").unlink()
    with pytest.raises(BTCChatError, match="clues.json, which names their model, is missing"):
        ClueWriter(written, ABOUT)
    (written / "clues.json").write_text(json.dumps(ABOUT))
    for line in ('{"id": 1}', '{"modality": "pair", "files": ["a.png"], "clue": ""}', "[]", "no json"):
        (written / "clues.jsonl").write_text(line + "\n")
        with pytest.raises(BTCChatError, match="clues.jsonl line 1 is not a clue"):
            Clues(written)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("onlin", None, None), "unknown prompt_augmentation 'onlin' (did you mean 'online'?); choose from cached"),
        (("cached", None, None), "--prompt_augmentation cached needs --clues DIR"),
        (("online", "clues", None), "--clues clues has no effect with --prompt_augmentation online"),
        (("off", "clues", None), "--clues clues has no effect with --prompt_augmentation off"),
        (("off", None, "base"), "--clue_model base has no effect with --prompt_augmentation off"),
    ],
)
def test_flags_that_contradict_are_errors(flags, words):
    with pytest.raises(BTCChatError) as error:
        check_flags(*flags)
    assert words in str(error.value)
