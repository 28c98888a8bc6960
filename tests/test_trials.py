"""The benchmarks that train and compare change encoders: whole, at toy sizes; and how their scores are made."""

import gzip
import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pycocoevalcap", reason="needs the extra eval, which dev includes")

import compare_encoders
from dots import dots
from seed_scores import DRAWS, Score, drawn, scores_of, share

import real_numbers

UNCHANGED = ["there is no difference", "the two scenes seem identical"]


@pytest.fixture(autouse=True)
def no_paraphrases(monkeypatch):
    """METEOR without its table of paraphrases, whose reading takes seconds; its scores are not looked at here."""
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
            said = [f"{number} houses on the left", "a house is built"] if changed else UNCHANGED
            entry = {"filepath": split, "filename": name, "split": split, "changeflag": changed}
            entries.append(entry | {"sentences": [{"raw": f" {text} ."} for text in said]})
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
def test_encoders_are_trained_alike_and_compared(levir, start, tmp_path, capsys):
    words = ["--smoke", "--start", str(start), "--real", str(levir), "--out", str(tmp_path), "--batch", "4"]
    assert compare_encoders.main([*words, "--jobs", "2"]) == 0
    out = capsys.readouterr().out
    costs, quality = tables(out)
    assert [row[0] for row in costs[2:]] == [row[0] for row in quality[2:]] == compare_encoders.ENCODERS
    attentive, more, aware, concat = (dict(zip(costs[0], row, strict=True)) for row in costs[2:])
    assert (attentive["tokens a pair"], aware["tokens a pair"], concat["tokens a pair"]) == ("4", "8", "8")
    assert concat["parameters"] == "0" and concat["its GFLOP a pair"] == "0.00"
    assert int(more["parameters"].replace(",", "")) > int(attentive["parameters"].replace(",", "")) > 0
    assert "A shorter run: pairs 8 instead of" in out and "less concat: synthetic: type F1" in out
    assert "a non-standard split of 50 LEVIR-CD test scenes" in out
    numbers = json.loads((tmp_path / "encoders.json").read_text())
    assert len(numbers["scores"]["real"]["concat"]["changed CIDEr-D"]["runs"]) == 1
    assert (tmp_path / "encoders.svg").read_text().count("<circle") == 8
    saved = json.loads((tmp_path / "difference_aware/seed-0/real/config.json").read_text())
    assert len(saved["mm_vision_select_layer"]) == 3  # as many depths as this tower has

    def no_training(*words):
        raise AssertionError(words)

    compare_encoders.trials.btcchat, before = no_training, compare_encoders.trials.btcchat
    try:
        assert compare_encoders.main(words) == 0  # all is there
    finally:
        compare_encoders.trials.btcchat = before


@pytest.mark.slow
def test_real_numbers_have_every_row(levir, start, tmp_path, capsys, monkeypatch):
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
    names.append("packaged, before it learned")
    assert changed == everything and changed[: len(names)] == names
    assert drawn == [*names, "everything changed"] and tables(out)[2][-1][1:] == ["12.5", "22.2", "-"]
    same = '"the scene is the same as before" for all'
    assert {same, "most frequent in train", "nearest in train"} <= set(changed)
    assert "pairs 6 instead of 2000" in out and "6 pairs in each of two stages" in out  # what is given wins
    assert f"attentive-1, scenes: {start}, not trained alike" in out
    numbers = json.loads((tmp_path / "out" / "real_numbers.json").read_text())["scores"]
    assert numbers[same]["flags"]["mean"] == 50.0 and len(numbers["concat, no scenes"]["S*m"]["runs"]) == 1


def test_a_row_that_is_none_is_one_line(capsys):
    with pytest.raises(SystemExit):
        real_numbers.main(["--pretrained", "concta=here"])
    assert "takes NAME=FOLDER, NAME one of attentive-0, attentive-1, concat" in capsys.readouterr().err


def write_run(folder, captions: list[str]):
    folder.mkdir()
    rows = [
        {"id": n, "prediction": text, "references": [f"{n} houses on the left", "a house"], "changed": n % 2}
        for n, text in enumerate(captions)
    ]
    (folder / "predictions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_scores_are_means_over_the_seeds_with_the_pairs_drawn_alike(tmp_path):
    right = [f"{n} houses on the left" for n in range(6)]
    wrong = ["there is no difference"] * 6
    good, bad = write_run(tmp_path / "good", right), write_run(tmp_path / "bad", wrong)
    found = scores_of({"good": [good, good], "mixed": [good, bad]}, free={"none": wrong})
    assert found["good"]["BLEU-1"].mean == pytest.approx(100, abs=1e-3)
    assert found["mixed"]["CIDEr-D"].runs.tolist() == [found["good"]["CIDEr-D"].mean, found["none"]["CIDEr-D"].mean]
    assert (found["none"]["flags"].mean, found["mixed"]["flags"].mean) == (50.0, 50.0)
    half = (found["good"]["CIDEr-D"].draws + found["none"]["CIDEr-D"].draws) / 2
    np.testing.assert_allclose(found["mixed"]["CIDEr-D"].draws, half)
    assert found["good"]["CIDEr-D"].against(found["none"]["CIDEr-D"]).endswith("(p 0.002)")
    assert found["good"]["CIDEr-D"].against(found["good"]["CIDEr-D"]) == "+0.0 (p 1.000)"


def test_a_share_is_of_the_sums():
    score = share(np.array([[1, 0, 4]]), np.array([[1, 1, 8]]), drawn(3))
    assert score.mean == 50.0 and 0 <= score.interval[0] < 50 < score.interval[1] <= 100
    assert len(score.draws) == DRAWS and str(score).startswith("50.0 (")


def test_a_chart_places_the_ends_of_its_scale(tmp_path):
    score = Score(np.array([2.0]), np.linspace(1, 3, DRAWS))
    dots(tmp_path / "a.svg", "One & two", ["a", "b"], {"F1 <x>": [score.ends, (4.0, 3.0, 5.0)]})
    text = (tmp_path / "a.svg").read_text()
    assert "One &amp; two" in text and "F1 &lt;x&gt;" in text and text.count("<circle") == 2
    assert 'cx="290.0"' in text  # 2 of 0..5 on a panel from 170, 300 wide
