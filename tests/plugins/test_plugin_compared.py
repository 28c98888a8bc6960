"""A plugin's change encoder in ``btcchat compare-encoders``: a row like any other, in child processes too."""

import gzip
import json

import pytest
from PIL import Image

from btcchat.cli import main
from btcchat.data.convert.base import CHANGE_QUESTION, conversation
from btcchat.eval.encoders.plan import ComparedEncoder
from tests.tiny import tiny_model


@pytest.fixture
def scenes(here):
    """Four pairs with captions, to learn from and to be compared on."""
    rows = []
    for number in range(4):
        Image.new("RGB", (32, 32), (60 * number, 90, 90)).save(here / f"{number}.png")
        captions = ["a house is built"] if number % 2 else ["no change"]
        row = {"id": number, "modality": "pair", "images": [f"{number}.png", "0.png"], "captions": captions}
        rows.append(json.dumps(row | {"conversations": conversation(CHANGE_QUESTION, captions[0])}))
    for split in ("train", "val"):
        (here / f"scenes_{split}.jsonl").write_text("\n".join(rows))
    (here / "sets.yaml").write_text("scenes: {annotation: 'scenes_{split}.jsonl', splits: [train, val]}\n")
    return here


@pytest.mark.slow
def test_an_encoder_of_a_plugin_is_a_row(scenes, gated, capsys, monkeypatch):
    pytest.importorskip("pycocoevalcap", reason="needs the extra eval, which dev includes")
    monkeypatch.setattr(
        "btcchat.eval.captions.meteor.write_relevant", lambda table, texts, out: gzip.open(out, "wb").close()
    )
    tiny_model(scenes).save_pretrained(scenes / "model")
    words = ["--data", "scenes", "--data-root", ".", "--mixture-folder", ".", "--start", "model", "--out", "out"]
    words += ["--seeds", "1", "--steps", "1", "--jobs", "2", "--repeats", "1", "--set", "dataloader_num_workers=0"]
    assert main(["compare-encoders", "concat", 'gated:{"gain": 0.5}', "--plugin", gated, *words]) == 0
    assert "| gated gain=0.5 |" in capsys.readouterr().out
    result = json.loads((scenes / "out/comparison.json").read_text())
    row = result["encoders"][1]
    assert (row["encoder"], row["options"], row["cost"]["parameters"]) == ("gated gain=0.5", {"gain": 0.5}, 528)
    saved = json.loads((scenes / "out" / row["folder"] / "seed-0/model/config.json").read_text())
    assert saved["plugins"][0]["module"] == gated


def test_another_version_of_an_encoder_is_another_training(here, gated, forget):
    from btcchat import plugins

    def code() -> str:
        plugins.enable_flags([gated])
        return ComparedEncoder.parse("gated").code()

    before = code()
    forget()
    assert code() == before
    forget()
    source = here / f"{gated}.py"
    source.write_text(source.read_text().replace("self.gain *", "2 * self.gain *"))
    assert code() != before


def test_an_encoder_without_its_plugin_is_unknown(here, gated, capsys):
    assert main(["compare-encoders", "gated", "--data", "scenes"]) == 2
    assert "unknown change encoder 'gated'" in capsys.readouterr().err
