"""The benchmark that trains change encoders on real pairs, from start to end at toy sizes."""

import gzip
import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pycocoevalcap", reason="needs the extra eval, which dev includes")


import real_numbers

UNCHANGED = ["there is no difference", "the two scenes seem identical"]


@pytest.fixture(autouse=True)
def no_paraphrases(monkeypatch):
    """METEOR without its table of paraphrases, which takes seconds to read; no test here checks its scores."""
    monkeypatch.setattr(
        "btcchat.eval.captions.meteor.write_relevant", lambda table, texts, out: gzip.open(out, "wb").close()
    )


@pytest.fixture(scope="module")
def levir(tmp_path_factory):
    """Eight training and four val pairs in LEVIR-CC's layout, half of them unchanged; masks of val."""
    root, entries = tmp_path_factory.mktemp("levir"), []
    for split, rows in (("train", 8), ("val", 4)):
        for number in range(rows):
            name, changed = f"{split}_{number}.png", number % 2
            for date, shade in (("A", 50), ("B", 50 + 150 * changed)):
                folder = root / "images" / split / date
                folder.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (32, 32), (shade, 20 * number, 90)).save(folder / name)
            if split == "val":
                mask = np.zeros((32, 32), np.uint8)
                mask[:8] = 255 * changed  # a quarter of it
                (root / "images/val/label").mkdir(exist_ok=True)
                Image.fromarray(mask).save(root / "images/val/label" / name)
            captions = [f"{number} houses on the left", "a house is built"] if changed else UNCHANGED
            entry = {"filepath": split, "filename": name, "split": split, "changeflag": changed}
            entries.append(entry | {"sentences": [{"raw": f" {text} ."} for text in captions]})
    (root / "LevirCCcaptions.json").write_text(json.dumps({"images": entries}))
    return root


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    from tests.tiny import tiny_model

    folder = tmp_path_factory.mktemp("start")
    tiny_model(folder, mm_vision_select_layer=-1).save_pretrained(folder / "model")
    return folder / "model"


def tables(text: str) -> list[list[list[str]]]:
    """Cells of each Markdown table."""
    blocks = [block for block in text.split("\n\n") if block.startswith("|")]
    return [[[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()] for block in blocks]


@pytest.mark.slow
def test_real_numbers_prints_every_row(levir, start, tmp_path, capsys, monkeypatch):
    from tests.tiny import tiny_model

    def small(folder):
        tiny_model(tmp_path, change_encoder=None, mm_vision_select_layer=-1).save_pretrained(folder)
        return folder

    monkeypatch.setattr(real_numbers, "random_start", small)
    words = ["--smoke", "--start", str(start), "--real", str(levir), "--out", str(tmp_path / "out"), "--batch", "4"]
    words += ["--pairs", "6", "--pretrained", f"attentive-1={start}"]
    assert real_numbers.main(words) == 0
    out = capsys.readouterr().out
    changed, everything, drawn = ([row[0] for row in cells[2:]] for cells in tables(out))
    names = ["packaged", *(f"{name}, {kind}" for name in real_numbers.ENCODERS for kind in ("scenes", "no scenes"))]
    names.append("packaged, no real pairs")
    assert changed == everything and changed[: len(names)] == names
    assert drawn == [*names, "everything changed"] and tables(out)[2][-1][1:] == ["12.5", "22.2", "-"]
    same = '"the scene is the same as before" for all'
    assert {same, "most frequent in train", "nearest in train"} <= set(changed)
    assert "pairs 6 instead of 2000" in out and "6 pairs in each of two stages" in out  # given values take precedence
    assert f"attentive-1, scenes: {start}, trained differently" in out
    numbers = json.loads((tmp_path / "out" / "real_numbers.json").read_text())["scores"]
    assert (
        numbers[same]["changed or unchanged"]["mean"] == 50.0 and len(numbers["concat, no scenes"]["S*m"]["seeds"]) == 1
    )


def test_an_unknown_row_is_an_error_of_one_line(capsys):
    with pytest.raises(SystemExit):
        real_numbers.main(["--pretrained", "concta=here"])
    assert "takes NAME=FOLDER, where NAME is one of attentive-0, attentive-1, concat" in capsys.readouterr().err
