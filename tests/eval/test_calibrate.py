"""`btcchat export --change-threshold`: the threshold that an evaluation with masks chose, in a copy of the model."""

import json

import numpy as np
import pytest

from btcchat import BTCChat
from btcchat.cli import main
from btcchat.eval.maps.masks import LEVELS, calibrate
from tests.eval.test_masks import change_map_of, root, words  # noqa: F401
from tests.eval.test_run import no_paraphrases, one_thread  # noqa: F401


@pytest.fixture(scope="module")
def scored(root, tmp_path_factory):  # noqa: F811
    """The run of a test split, whose threshold is chosen on val."""
    run = tmp_path_factory.mktemp("calibrate") / "run"
    assert main(words(root, "scenes", run)) == 0
    return run


def refused(capsys, *arguments) -> str:
    assert main(["export", "--change-threshold", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_the_threshold_with_the_best_iou_is_written_with_what_it_was_chosen_on(root, scored, tmp_path, capsys):  # noqa: F811
    out = tmp_path / "out"
    assert main(["export", "--change-threshold", str(scored), str(root / "model"), str(out)]) == 0
    found = change_map_of(scored, "scenes:test")
    chosen = found["calibration"]
    assert (chosen["set"], chosen["maps"], chosen["value"]) == ("scenes:val", 4, found["threshold"])
    before, after = (BTCChat.from_pretrained(folder, device="cpu") for folder in (root / "model", out))
    assert before.config.change_threshold is None
    expected = {
        "value": round(found["threshold"], 4),
        "chosen_on": f"scenes:val, 4 change maps, IoU {chosen['IoU']:.1f} %",
    }
    assert after.config.change_threshold == expected and expected["chosen_on"] in capsys.readouterr().out
    weights = [dict(model.state_dict()) for model in (before, after)]
    assert weights[0].keys() == weights[1].keys() and all(
        (weights[0][key] == weights[1][key]).all() for key in weights[0]
    )
    after.save_pretrained(out)  # it is ours to replace, as the original is
    assert "already exists" in refused(capsys, scored, root / "model", out)


def test_its_iou_is_that_of_the_maps_that_chose_it(root, tmp_path):  # noqa: F811
    assert main(words(root, "scenes:val@first:3", tmp_path / "val")) == 0
    found = change_map_of(tmp_path / "val", "scenes:val")
    assert found["calibration"]["set"] == "scenes:val@first:3" and found["calibration"]["maps"] == 3
    assert found["calibration"]["IoU"] == found["scores"]["change map"]["IoU"]


def test_a_run_that_chose_none_is_refused(root, scored, tmp_path, capsys):  # noqa: F811
    model, out = root / "model", tmp_path / "out"
    metrics = (scored / "metrics.json").read_text()
    assert main(words(root, "scenes", scored, "--mask-threshold", "0.2")) == 0
    assert "did not choose its threshold but was given --mask-threshold; run" in refused(capsys, scored, model, out)
    content = json.loads(metrics)
    (scored / "metrics.json").write_text(metrics)
    assert "no model at" in refused(capsys, scored, tmp_path / "none", out)
    assert "is a run of" in refused(capsys, scored, "tiny", out)
    del content["sets"]["scenes:test"]["change_map"]
    (scored / "metrics.json").write_text(json.dumps(content))
    assert "has not compared change maps with masks; run btcchat eval" in refused(capsys, scored, model, out)
    (scored / "metrics.json").write_text(metrics)
    assert "is not a run folder" in refused(capsys, model, model, out)
    assert "--base cannot be used" in refused(capsys, scored, model, out, "--base", "x")
    assert not out.exists()


def test_maps_that_show_nothing_have_no_threshold(root, scored, tmp_path, capsys):  # noqa: F811
    file = scored / "metrics.json"
    metrics = file.read_text()
    content = json.loads(metrics)
    content["sets"]["scenes:test"]["change_map"]["calibration"]["value"] = 0.0
    file.write_text(json.dumps(content))
    said = refused(capsys, scored, root / "model", tmp_path / "out")
    assert "no threshold is better than calling every pixel changed on scenes:val" in said
    file.write_text(metrics)


def test_the_best_threshold_of_maps_that_are_right_is_at_the_change():
    counts = np.zeros((2, 2, LEVELS), np.int64)
    counts[:, 0, 40], counts[:, 1, 100] = 50, 10  # pixels that did not change, and that did
    found = calibrate(counts, "mine:val")
    assert found["set"] == "mine:val" and found["IoU"] == 100 and 40 < found["value"] * 255 <= 100
