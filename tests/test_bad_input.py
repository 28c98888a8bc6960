"""Wrong inputs are errors of one line on stderr with exit code 2, before a model is loaded.

Faulty checkpoints are in tests/checkpoint/test_checkpoint.py.
"""

import numpy as np
import pytest
from PIL import Image

from btcchat import cli
from btcchat.commands import options
from btcchat.media.images import load_images
from tests.fake_model import FakeModel
from tests.media.test_video import write_video


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory: one file for each fault, and a good pair a.png, b.png."""
    monkeypatch.chdir(tmp_path)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for name in ("a.png", "b.png", "large.png"):
        noise.save(name)
    noise.resize((200, 200)).save("large.png")
    (tmp_path / "truncated.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not an image at all")
    (tmp_path / "text.mp4").write_text("not a video at all\n" * 100)
    (tmp_path / "folder.png").mkdir()
    write_video(tmp_path / "clip.mp4", 3)
    write_video(tmp_path / "no frame.avi", 0)
    return tmp_path


def fault(capsys, words: list[str]) -> str:
    """Run a command that must fail and return its line on stderr without the prefix."""
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("btcchat: error: ") and err.count("\n") == 1, err
    return err.removeprefix("btcchat: error: ").rstrip()


IMAGE_FAULTS = [
    ("missing.png", "image 'missing.png' not found"),
    ("text.png", "'text.png' is not an image that can be read"),
    ("truncated.png", "image 'truncated.png' (64 x 64) is truncated or damaged"),
    ("empty.png", "image 'empty.png' is empty (0 bytes)"),
    ("large.png", "200 x 200 = 40,000 pixels, the limit is 10,000"),
    ("folder.png", "image 'folder.png' is a folder, but a file is expected"),
    ("clip.mp4", "image 'clip.mp4' is a video file; give it as a video"),
    ("https://example.org/a.png", "is an address; download it"),
]


@pytest.mark.parametrize("name, words", IMAGE_FAULTS)
def test_an_unusable_image_is_an_error(folder, capsys, monkeypatch, name, words):
    monkeypatch.setitem(load_images.__kwdefaults__, "max_pixels", 10_000)
    monkeypatch.setattr(options, "load_model", lambda args: pytest.fail("loaded a model for nothing"))
    for command in (
        ["caption", "a.png", name],
        ["ask", "What is here?", "--image", name],
        ["ask", "What changed?", "--series", "a.png", name, "b.png"],
        ["chat", "--pair", name, "b.png"],
    ):
        assert words in fault(capsys, command)


@pytest.mark.parametrize(
    "command, words",
    [
        (["caption", "a.png"], "got 1 image (a.png), but a caption needs 2"),
        (["caption", "a.png", "b.png", "a.png"], "3 images (a.png, b.png, a.png), a pair needs 2 (before, after)"),
        (["ask", "Q", "--pair", "a.png"], "1 image (a.png), a pair needs 2 (before, after)"),
        (["ask", "Q", "--series", "a.png"], "a series needs 2 to 16 dates"),
        (["ask", "Q", "--series", *["a.png"] * 17], "17 images (a.png, a.png, a.png, a.png, ...), a series"),
        (["ask", "", "--image", "a.png"], "the question is empty"),
        (["ask", " \n", "--image", "a.png"], "the question is empty"),
        (["ask", "Q"], "add --image, --pair, --series or --video"),
        (["ask", "--series", "a.png", "b.png", "What changed?"], "QUESTION is missing; put it first"),
        (["ask", "Q", "--image", "a.png", "--video", "clip.mp4"], "not allowed with"),
        (["ask", "Q", "--image", "a.png", "--dates", "2010"], "--dates needs --pair or --series"),
        (["ask", "Q", "--video", "missing.mp4"], "video 'missing.mp4' not found"),
        (["ask", "Q", "--video", "empty.png"], "video 'empty.png' is empty"),
        (["ask", "Q", "--image", "a.png", "--max-new-tokens", "0"], "expected a whole number of at least 1"),
        (["ask", "Q", "--image", "a.png", "--temperature", "-1"], "got '-1', expected 0 (greedy) or a number"),
        (["ask", "Q", "--image", "a.png", "--top-p", "2"], "got '2', expected a number above 0 and at most 1"),
        (["ask", "Q", "--image", "a.png", "--device", "gpu"], "choose from"),
        (["caption", "--pairs", "list.csv"], "--pairs needs --out"),
        (["caption", "a.png", "b.png", "--out", "x.jsonl"], "--out needs --pairs"),
        (["caption", "a.png", "b.png", "--pairs", "list.csv", "--out", "x.jsonl"], "leave out BEFORE AFTER"),
        (["caption", "a.png", "b.png", "--example"], "either BEFORE AFTER or --example"),
    ],
)
def test_a_command_with_wrong_arguments_is_an_error(folder, capsys, monkeypatch, command, words):
    monkeypatch.setattr(options, "load_model", lambda args: pytest.fail("loaded a model for nothing"))
    assert words in fault(capsys, command)


@pytest.mark.parametrize(
    "name, words",
    [
        ("text.mp4", "video 'text.mp4' cannot be decoded"),
        ("a.png", "video 'a.png' cannot be decoded"),
        ("no frame.avi", "video 'no frame.avi' "),
        ("folder.png", "folder 'folder.png' has no frames"),
    ],
)
def test_an_unusable_video_is_an_error(folder, capsys, monkeypatch, name, words):
    monkeypatch.setattr(options, "load_model", lambda args: FakeModel())
    assert words in fault(capsys, ["ask", "Q", "--video", name])


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "list of pairs 'list.csv' is empty"),
        ("before,after\n", "'list.csv' lists no pairs; add rows of before,after"),
        ("old,new\na.png,b.png\n", "has no column before and after; found old, new, expected before,after[,id]"),
        ("before,new\na.png,b.png\n", "has no column after"),
        ("\nbefore,after\n", "has no column before and after"),
        ('before,after\n"a.png,b.png\n', "'list.csv' row 2: not CSV (unexpected end of data)"),
        ("before,after\na\udcff.png,b.png\n", "'list.csv': not UTF-8 near 'fore,after\\na\\xff.png,b.png\\n'"),
        (f"before,after\na.png,{'b' * (2**20 + 1)}\n", "'list.csv' row 2: not CSV (a cell has more than 1,048,576 cha"),
    ],
)
def test_a_malformed_list_of_pairs_is_an_error(folder, capsys, monkeypatch, text, words):
    monkeypatch.setattr(options, "load_model", lambda args: pytest.fail("loaded a model for nothing"))
    (folder / "list.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert words in fault(capsys, ["caption", "--pairs", "list.csv", "--out", "out.jsonl"])
    assert not (folder / "out.jsonl").exists()


def test_bad_rows_are_reported_and_the_others_are_captioned(folder, capsys, monkeypatch):
    monkeypatch.setattr(options, "load_model", lambda args: FakeModel())
    (folder / "list.csv").write_text(
        "before,after,id\n"
        "a.png,b.png,good\n"
        "a.png\n"
        ",b.png,nothing before\n"
        "a.png,missing.png,missing\n"
        "a.png,truncated.png,truncated\n"
        "a.png,b.png,good\n"
        "a.png,b.png,too,many\n"
        "b.png,a.png,good too\n"
        f"a.png,{'b' * 200_000},long\n"
    )
    assert cli.main(["caption", "--pairs", "list.csv", "--out", "out.jsonl"]) == 3
    out, err = capsys.readouterr()
    lines = err.splitlines()
    for row, words in {
        3: "no after; a pair needs before and after", 4: "no before", 5: "image 'missing.png' not found",
        6: "image 'truncated.png' (64 x 64) is truncated", 7: "the id 'good' is already used by list.csv row 2",
        8: "4 cells, but the header has 3", 10: "image 'bbbb",
    }.items():  # fmt: skip
        assert sum(f"list.csv row {row}: {words}" in line for line in lines) == 1, (row, err)
    assert lines[-1] == "btcchat: 2 captions written to out.jsonl, 7 failed (listed above)"
    assert len(lines) == 8 and out == ""
    assert (folder / "out.jsonl").read_text().count("\n") == 2


@pytest.mark.parametrize(
    "out, content, words",
    [
        ("nowhere/out.jsonl", None, "the folder of --out does not exist"),
        ("folder.png", None, "--out is a folder"),
        ("notes.txt", "my notes, which must not be lost", "line 1 is not a caption of a pair; choose another --out"),
        ("notes.txt", "my notes\n", "line 1 is not a caption of a pair; choose another --out"),
        ("other.jsonl", '{"text": "a"}\n', "line 1 is not a caption of a pair"),
        ("out.jsonl", '{"before": "a", "after": "b", "caption": "c", "model": "m"}\n', "captions by model m, not tiny"),
    ],
)
def test_an_out_file_with_other_contents_is_not_changed(folder, capsys, monkeypatch, out, content, words):
    monkeypatch.setattr(options, "load_model", lambda args: pytest.fail("loaded a model for nothing"))
    (folder / "list.csv").write_text("before,after\na.png,b.png\n")
    if content is not None:
        (folder / out).write_text(content)
    assert words in fault(capsys, ["caption", "--pairs", "list.csv", "--out", out])
    assert content is None or (folder / out).read_text() == content


def test_a_folder_of_pairs_needs_subfolders_a_and_b(folder, capsys):
    for side in "AB":
        (folder / "train" / side).mkdir(parents=True)
    line = fault(capsys, ["caption", "--pairs", ".", "--out", "out.jsonl"])
    assert "needs subfolders A (before) and B (after); give train, which has them" in line
    line = fault(capsys, ["caption", "--pairs", "train", "--out", "out.jsonl"])
    assert "'train' lists no pairs; put images into its folders A and B" in line


def test_an_image_without_its_counterpart_is_reported(folder, capsys, monkeypatch):
    monkeypatch.setattr(options, "load_model", lambda args: FakeModel())
    for name in ("site/A/1.png", "site/B/1.png", "site/A/2.png", "site/B/3.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(name)
    assert cli.main(["caption", "--pairs", "site", "--out", "out.jsonl"]) == 3
    err = capsys.readouterr().err
    assert "site/A/2.png: no B/2.png" in err and "site/B/3.png: no A/3.png" in err
    assert "1 caption written" in err


# -- with a real model -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from tests.tiny import tiny_model

    folder = tmp_path_factory.mktemp("model")
    tiny_model(folder).save_pretrained(folder / "checkpoint")
    return str(folder / "checkpoint")


def test_cuda_on_a_machine_without_it_is_an_error(folder, capsys, checkpoint):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    line = fault(capsys, ["caption", "a.png", "b.png", "--model", checkpoint, "--device", "cuda"])
    assert "cuda" in line and "--device cpu" in line


def test_an_unknown_model_path_is_an_error(folder, capsys):
    assert "no model at ./nowhere" in fault(capsys, ["caption", "a.png", "b.png", "--model", "./nowhere"])


def test_the_error_for_a_prompt_that_is_too_long_gives_both_numbers(folder, capsys, checkpoint):
    line = fault(capsys, ["ask", "why " * 1000, "--image", "a.png", "--model", checkpoint])
    assert "512" in line and sum(part.isdigit() for part in line.replace(",", " ").split()) >= 2


def test_an_image_tag_in_a_question_is_text(folder, capsys, checkpoint):
    """If it were a placeholder, there would be more placeholders than images, which is an error."""
    words = ["--image", "a.png", "--model", checkpoint, "--max-new-tokens", "4"]
    assert cli.main(["ask", "What is an <image> and a </s>?", *words]) == 0
    assert "error" not in capsys.readouterr().err
