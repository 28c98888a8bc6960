"""`btcchat eval --masks`: change maps are drawn once and compared with the masks of the pairs."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from btcchat.cli import main
from btcchat.errors import BTCChatError
from btcchat.eval.maps.masks import LEVELS, best_level, count, level_of, mask_scores, mask_text
from tests.eval.test_run import no_paraphrases, one_thread, torchrun, write_rows  # noqa: F401

SETS = """
scenes: {annotation: "scenes_{split}.jsonl", images: data, splits: [train, val, test]}
held: {annotation: held_test.jsonl, images: data}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A data root of synthetic scenes, four of val and three of test, with a checkpoint in it."""
    from btcchat.synthetic.write import SampleCounts, write_dataset
    from tests.tiny import tiny_model

    root = tmp_path_factory.mktemp("masks")
    write_dataset(root / "data", SampleCounts(pairs=7), seed=3, workers=1)
    rows = [json.loads(line) for line in (root / "data/pairs.jsonl").read_text().splitlines()]
    for name, some in {"scenes_val": rows[:4], "scenes_test": rows[4:], "held_test": rows[4:]}.items():
        write_rows(root / f"{name}.jsonl", some)
    (root / "sets.yaml").write_text(SETS)
    tiny_model(root).save_pretrained(root / "model")
    return root


def words(root: Path, mixture: str, out: Path, *options: str) -> list[str]:
    words = ["eval", str(root / "model"), mixture, "--out", str(out), "--data-root", str(root), "--mixture-folder"]
    words += [str(root), "--device", "cpu", "--batch-size", "2", "--max-new-tokens", "2", "--masks", *options]
    return words


def change_map_of(run: Path, name: str) -> dict:
    return json.loads((run / "metrics.json").read_text())["sets"][name]["change_map"]


def test_scores_are_those_of_the_pixels_at_the_level_of_the_best_iou():
    random = np.random.default_rng(0)
    masks = random.random((5, 20, 30)) < 0.3
    maps = np.clip(random.normal(90 + 60 * masks, 40), 0, 255).astype(np.uint8)
    both = list(zip(maps, masks, strict=True))
    counts = np.stack([[np.bincount(one[mask == on], minlength=LEVELS) for on in (0, 1)] for one, mask in both])

    def by_hand(level: int) -> dict:
        said = maps >= level
        both = (said & masks).sum()
        precision, recall = both / max(said.sum(), 1), both / masks.sum()
        f1 = 2 * precision * recall / (precision + recall)
        return {"IoU": both / (said | masks).sum(), "precision": precision, "recall": recall, "F1": f1}

    best = best_level(counts)
    assert best == max(range(LEVELS - 20), key=lambda level: by_hand(level)["IoU"]) and 90 < best < 150
    found = mask_scores(counts, best)
    scores = found["scores"]["change map"]
    assert {name: scores[name] / 100 for name in by_hand(0)} == pytest.approx(by_hand(best))
    assert all(low < scores[name] < high for name, (low, high) in scores["95 %"].items())
    share = 100 * masks.mean()
    assert found["changed pixels"] == pytest.approx(share)
    everything, nothing = found["scores"]["everything changed"], found["scores"]["nothing changed"]
    assert everything["IoU"] == everything["precision"] == pytest.approx(share) and everything["recall"] == 100
    assert nothing == {"IoU": 0, "precision": None, "recall": 0, "F1": 0}
    lines = mask_text(found | {"threshold": 0.4, "chosen": "given"}).splitlines()
    assert lines[1] == "changed: at least 0.400, given"
    assert lines[-1].split() == ["nothing", "changed", "0.00", "-", "0.00", "0.00"]


def test_a_threshold_is_met_by_the_levels_at_or_above_it():
    assert [level_of(one) for one in (0, 0.4, 0.5, 1)] == [0, 102, 128, 255]
    assert all(level_of(level / 255) == level for level in range(LEVELS))


def test_a_test_split_is_scored_at_the_threshold_of_its_val_split(root, tmp_path, capsys, monkeypatch):
    run = tmp_path / "test"
    assert main(words(root, "scenes", run)) == 0
    out = capsys.readouterr().out
    found = change_map_of(run, "scenes:test")
    assert found["chosen"] == "chosen on scenes:val (4 pairs) by IoU" and found["chosen"] in out
    assert found["pairs"] == 3 and "everything changed" in out
    said = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    rows = [json.loads(line) for line in (root / "scenes_test.jsonl").read_text().splitlines()]
    assert [row["changed"] for row in said] == [row["truth"]["changed"] for row in rows]
    assert main(words(root, "scenes:val", tmp_path / "val")) == 0
    on_val = change_map_of(tmp_path / "val", "scenes:val")
    assert on_val["threshold"] == found["threshold"] and on_val["chosen"] == "chosen on this split by IoU"
    maps = np.stack([np.asarray(Image.open(run / "change_maps" / f"{row['id']}.png")) for row in rows])
    masks = np.stack([np.asarray(Image.open(root / "data" / row["mask"])) > 0 for row in rows])
    said = maps >= round(found["threshold"] * 255)
    assert maps.dtype == np.uint8 and maps.shape == masks.shape and masks.any()
    expected = 100 * (said & masks).sum() / (said | masks).sum()
    assert found["scores"]["change map"]["IoU"] == pytest.approx(expected)

    monkeypatch.setattr("btcchat.commands.evaluate.load_model", None)  # all maps are there
    assert main(words(root, "scenes", run, "--mask_threshold", "0.2")) == 0
    assert change_map_of(run, "scenes:test")["chosen"] == "given"
    assert change_map_of(run, "scenes:test")["threshold"] == pytest.approx(0.2)


def test_a_map_is_that_of_the_model_and_only_missing_ones_are_drawn(root, tmp_path):
    from btcchat import BTCChat

    assert main(words(root, "scenes:val", tmp_path)) == 0
    paths = sorted((tmp_path / "change_maps").iterdir())
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}
    row = json.loads((root / "scenes_val.jsonl").read_text().splitlines()[0])
    model = BTCChat.from_pretrained(root / "model", device="cpu")
    alone = model.change_map(*(root / "data" / path for path in row["images"]))
    np.testing.assert_allclose(np.asarray(Image.open(paths[0])) / 255, alone, atol=0.51 / 255)
    paths[1].unlink()  # left by an interrupted run
    assert main(words(root, "scenes:val", tmp_path)) == 0
    assert {path: path.read_bytes() for path in paths} == {path: data for path, (data, _) in before.items()}
    assert [path for path in paths if path.stat().st_mtime_ns != before[path][1]] == [paths[1]]


def test_maps_are_drawn_for_the_report_of_pairs_without_masks(root, tmp_path, capsys):
    rows = [json.loads(line) for line in (root / "scenes_test.jsonl").read_text().splitlines()]
    write_rows(root / "held_test.jsonl", [row | {"mask": None} for row in rows])
    command = ["--change-maps" if word == "--masks" else word for word in words(root, "held", tmp_path)]
    assert main(command) == 0
    assert sorted(path.stem for path in (tmp_path / "change_maps").iterdir()) == sorted(row["id"] for row in rows)
    assert "change_map" not in json.loads((tmp_path / "metrics.json").read_text())["sets"]["held"]
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_text().count("change map, red: 0 to") == len(rows)
    write_rows(root / "held_test.jsonl", rows)


@pytest.mark.slow
def test_two_processes_draw_the_same_maps(root, tmp_path):
    assert main(words(root, "scenes", tmp_path / "one")) == 0
    torchrun(2, words(root, "scenes", tmp_path / "two"))
    one, two = (
        {path.relative_to(run): path.read_bytes() for path in run.glob("**/change_maps/*")}
        for run in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two and len(one) == 7
    assert change_map_of(tmp_path / "one", "scenes:test") == change_map_of(tmp_path / "two", "scenes:test")


def test_what_cannot_be_scored_is_named_before_the_model_is_loaded(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("btcchat.commands.evaluate.load_model", None)
    rows = [json.loads(line) for line in (root / "scenes_test.jsonl").read_text().splitlines()]
    video = {"id": 1, "modality": "image", "image": "x.png", "conversations": rows[0]["conversations"][:2]}
    faults = {
        "held_test.jsonl row 2: no 'mask', which --masks needs of every pair": [rows[0], rows[1] | {"mask": None}],
        "held_test.jsonl row 1: mask '": [rows[0] | {"mask": "gone.png"}],
        "gone.png' not found (and 1 more pair)": [row | {"mask": "gone.png"} for row in rows[:2]],
        "change maps need pairs, and held has no pairs": [video],
        "held has no val split to choose a threshold on; set one with --mask_threshold T": rows,
    }
    for message, some in faults.items():
        write_rows(root / "held_test.jsonl", some)
        assert main(words(root, "held", tmp_path / "run")) == 2
        assert message in capsys.readouterr().err
    write_rows(root / "held_test.jsonl", rows)
    for threshold in ("1.5", "-0.1", "2"):
        assert main(words(root, "held", tmp_path / "run", "--mask-threshold", threshold)) == 2
        expected = f"--mask-threshold {threshold}: expected a number from 0 to 1, together with --masks"
        assert expected in capsys.readouterr().err
    assert main([word for word in words(root, "held", tmp_path, "--mask-threshold", "0.5") if word != "--masks"]) == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_every_value_of_a_mask_but_0_is_a_change(tmp_path, mode):
    """LEVIR-MCI's roads are 128, its buildings 255; other masks have 1."""
    mask = np.array([[0, 128, 255, 1]], np.uint8)
    Image.fromarray(mask).convert(mode).save(tmp_path / "mask.png")
    Image.fromarray(np.array([[10, 20, 30, 40]], np.uint8)).save(tmp_path / "map.png")
    record = SimpleNamespace(row={"mask": "mask.png"}, where="rows.json row 1", image_root=str(tmp_path))
    sample = SimpleNamespace(record=record)
    unchanged, changed = count(sample, tmp_path / "map.png")
    assert np.flatnonzero(unchanged).tolist() == [10] and np.flatnonzero(changed).tolist() == [20, 30, 40]


def test_a_mask_of_another_size_is_named(root, tmp_path, capsys):
    rows = [json.loads(line) for line in (root / "scenes_test.jsonl").read_text().splitlines()]
    Image.new("1", (10, 20)).save(root / "data/small.png")
    write_rows(root / "held_test.jsonl", [rows[0] | {"mask": "small.png"}])
    assert main(words(root, "held", tmp_path, "--mask-threshold", "0.5")) == 2
    assert "small.png is 10 x 20 pixels, but the pair's change map is 256 x 256" in capsys.readouterr().err


@pytest.mark.parametrize("dtype, changed, nodata", [("uint8", 255, 255), ("uint8", 128, 0), ("uint16", 1, None)])
def test_any_nonzero_mask_value_is_a_change_whatever_its_type_and_tags(tmp_path, dtype, changed, nodata):
    from types import SimpleNamespace

    from btcchat.eval.maps.masks import count
    from tests.media.scenes import write

    mask = np.zeros((4, 4, 1), dtype)
    mask[0] = changed
    write(tmp_path / "mask.tif", mask, nodata=nodata)
    Image.new("L", (4, 4), 9).save(tmp_path / "map.png")
    record = SimpleNamespace(row={"mask": "mask.tif"}, where="row 1", image_root=str(tmp_path))
    sample = SimpleNamespace(record=record)
    assert count(sample, tmp_path / "map.png")[:, 9].tolist() == [12, 4]


def test_a_broken_map_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(BTCChatError, match="delete it and rerun to draw it again"):
        count(None, tmp_path / "a.png")
