"""A command opens each image file once for a question or record."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from btcchat import cli
from btcchat.commands import options

IMAGES = [f"{number}.png" for number in range(5)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from tests.tiny import tiny_model

    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(tmp_path, monkeypatch, model) -> Path:
    """The working directory, with five images, a series of three of them in a folder, and a set of an image and a pair
    and a series."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(options, "load_model", lambda args: model)
    noise = np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)
    for name, pixels in zip(IMAGES, noise, strict=True):
        Image.fromarray(pixels).save(name)
    (tmp_path / "dates").mkdir()
    for number, pixels in enumerate(noise[:3]):
        Image.fromarray(pixels).save(f"dates/date{number}.png")
    talk = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "two houses"}]
    rows = [
        {"id": 1, "modality": "image", "image": "0.png"},
        {"id": 2, "modality": "pair", "images": ["1.png", "2.png"]},
        {"id": 3, "modality": "series", "images": ["3.png", "4.png"]},
        {"id": 4, "modality": "video", "video": "dates"},
    ]
    lines = [json.dumps(row | {"conversations": talk}) + "\n" for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    (tmp_path / "sets.yaml").write_text("mine: {annotation: rows.jsonl, images: .}\n")
    return tmp_path


DATES = ["date0.png", "date1.png", "date2.png"]


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (["caption", "0.png", "1.png", "--change-map", "map.png"], ["0.png", "1.png"]),
        (["ask", "Q", "--image", "0.png"], ["0.png"]),
        (["ask", "Q", "--series", "dates"], DATES),
        (["ask", "Q", "--video", "dates"], DATES),
        (["ask", "Q", "--image", "0.png", "--prompt-augmentation", "online", "--clue-model", "self"], ["0.png"]),
        (["ask", "Q", "--video", "dates", "--prompt-augmentation", "online", "--clue-model", "self"], DATES),
        (["data", "check", "mine", "--workers", "0"], [*IMAGES, *DATES]),
        (["data", "show", "mine", "--out", "page.html"], [*IMAGES, *DATES]),
    ],
)
def test_a_command_opens_each_image_once(folder, opened, capsys, words, files):
    where = ["--data-root", ".", "--mixture-folder", "."] if words[0] == "data" else ["--max-new-tokens", "2"]
    assert cli.main([*words, *where]) == 0, capsys.readouterr().err
    assert sorted(opened) == files


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (["--image", "0.png"], ["0.png"]),
        (["--pair", "0.png", "1.png", "--dates", "2010", "2014"], ["0.png", "1.png"]),
        (["--series", "dates"], DATES),
        (["--video", "dates"], DATES),
    ],
)
def test_a_chat_opens_its_first_images_once(folder, opened, monkeypatch, capsys, words, files):
    monkeypatch.setattr("sys.stdin", io.StringIO("What is it?\nAnd now?\n"))
    assert cli.main(["chat", *words, "--max-new-tokens", "2"]) == 0
    assert "error" not in capsys.readouterr().err
    assert sorted(opened) == files


def test_an_image_of_many_pairs_is_decoded_once_by_data_check(folder, opened):
    talk = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "two houses"}]
    rows = [{"modality": "pair", "images": ["0.png", f"{n}.png"], "conversations": talk} for n in (1, 2, 3)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["data", "check", "mine", "--workers", "0", "--data-root", ".", "--mixture-folder", "."]
    assert cli.main(words) == 0
    assert sorted(opened) == IMAGES[:4]
    Path("0.png").write_bytes(b"damaged since")
    assert cli.main(words) == 3, "the next check reads the files again"


def test_a_list_of_pairs_is_opened_pair_by_pair(folder, opened):
    (folder / "list.csv").write_text("before,after\n0.png,1.png\n2.png,3.png\n")
    assert cli.main(["caption", "--pairs", "list.csv", "--out", "out.jsonl", "--max-new-tokens", "2"]) == 0
    assert sorted(opened) == IMAGES[:4]
