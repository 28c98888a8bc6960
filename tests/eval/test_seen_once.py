"""An evaluation reads each row, opens each image and encodes each pair once, whatever it computes."""

import json
from collections import Counter
from pathlib import Path

import pytest

from btcchat.cli import main
from tests.eval.test_run import no_paraphrases, one_thread, write_rows  # noqa: F401

SETS = 'scenes: {annotation: "scenes_{split}.jsonl", images: data, splits: [train, val, test]}\n'
SPLITS = {"train": slice(0, 3), "val": slice(3, 5), "test": slice(5, 7)}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A data root of synthetic scenes, no two pairs of the same images, with a checkpoint in it."""
    from btcchat.synthetic.write import SampleCounts, write_dataset
    from tests.tiny import tiny_model

    root = tmp_path_factory.mktemp("once")
    write_dataset(root / "data", SampleCounts(pairs=7), seed=3, workers=1)
    for split in SPLITS:
        write_rows(root / f"scenes_{split}.jsonl", rows_of(root, split))
    (root / "sets.yaml").write_text(SETS)
    tiny_model(root).save_pretrained(root / "model")
    return root


def rows_of(root: Path, split: str) -> list[dict]:
    rows = [json.loads(line) for line in (root / "data/pairs.jsonl").read_text().splitlines()]
    return rows[SPLITS[split]]


def names(root: Path, *splits: str, masks: tuple[str, ...] = ()) -> list[str]:
    """The image files of these splits, and the masks of those."""
    images = [path for split in splits for row in rows_of(root, split) for path in row["images"]]
    return sorted(Path(path).name for path in images + [row["mask"] for split in masks for row in rows_of(root, split)])


@pytest.fixture
def seen(monkeypatch) -> list[int]:
    """Number of frames in each forward pass of the vision tower."""
    from btcchat.model import BTCChatModel

    counts, see = [], BTCChatModel.see
    monkeypatch.setattr(BTCChatModel, "see", lambda model, frames: counts.append(len(frames)) or see(model, frames))
    return counts


@pytest.fixture
def parsed(monkeypatch) -> Counter:
    """How often each annotation row is parsed."""
    from btcchat.data.records import record

    counts, parse = Counter(), record.parse
    monkeypatch.setattr(
        record, "parse", lambda row, where, image_root: counts.update([where]) or parse(row, where, image_root)
    )
    return counts


def words(root: Path, mixture: str, out: Path, *options: str) -> list[str]:
    folders = ["--out", str(out), "--data-root", str(root), "--mixture-folder", str(root)]
    limits = ["--device", "cpu", "--batch-size", "2", "--max-new-tokens", "2"]
    return ["eval", str(root / "model"), mixture, *folders, *limits, *options]


def all_once(counts: Counter, root: Path, *splits: str) -> bool:
    expected = [f"scenes_{split}.jsonl row {n + 1}" for split in splits for n in range(len(rows_of(root, split)))]
    return counts == dict.fromkeys(expected, 1)


def test_answers_change_maps_and_neighbours_come_from_one_pass_over_each_pair(root, tmp_path, opened, seen, parsed):
    assert main(words(root, "scenes:test", tmp_path, "--change-maps")) == 0
    assert "nearest in train" in (tmp_path / "metrics.json").read_text()
    assert len(list((tmp_path / "change_maps").iterdir())) == 2
    assert sorted(opened) == names(root, "test", "train")
    assert sum(seen) == 2 * (2 + 3)
    assert all_once(parsed, root, "test", "train")


def test_the_splits_of_one_set_share_what_was_read_and_seen(root, tmp_path, opened, seen, parsed):
    """The val split is evaluated, and chooses the threshold of the test split; both have the same neighbours."""
    assert main(words(root, "scenes:val+scenes:test", tmp_path, "--masks")) == 0
    sets = json.loads((tmp_path / "metrics.json").read_text())["sets"]
    assert sets["scenes:test"]["change_map"]["chosen"] == "chosen on scenes:val (2 pairs) by IoU"
    assert all("nearest in train" in one["scores"] for one in sets.values())
    assert sorted(opened) == names(root, "val", "test", "train", masks=("val", "test"))
    assert sum(seen) == 2 * 7
    assert all_once(parsed, root, "val", "test", "train")


def test_a_train_split_that_is_evaluated_too_is_seen_once(root, tmp_path, opened, seen, parsed):
    assert main(words(root, "scenes:train+scenes:test", tmp_path)) == 0
    assert sorted(opened) == names(root, "test", "train")
    assert sum(seen) == 2 * 5
    assert all_once(parsed, root, "test", "train")


def test_shared_splits_give_the_scores_of_each_split_alone(root, tmp_path):
    assert main(words(root, "scenes:val+scenes:test", tmp_path / "both", "--masks")) == 0
    assert main(words(root, "scenes:test", tmp_path / "alone", "--masks")) == 0
    both, alone = (
        json.loads((tmp_path / name / "metrics.json").read_text())["sets"]["scenes:test"] for name in ("both", "alone")
    )
    assert both["change_map"] == alone["change_map"]
    assert both["scores"] == alone["scores"]


def test_a_report_opens_each_image_and_each_map_once(root, tmp_path, opened):
    assert main(words(root, "scenes:test", tmp_path, "--change-maps", "--train", "none")) == 0
    opened.clear()
    assert main(["report", str(tmp_path)]) == 0
    maps = [path.name for path in (tmp_path / "change_maps").iterdir()]
    assert sorted(opened) == sorted([*names(root, "test"), *maps])
