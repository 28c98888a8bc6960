"""One value says how images are read; every command accepts it and every path to the model uses it."""

import json

import numpy as np
import pytest

from btcchat import BTCChat, Processor, cli, request
from btcchat.clues.ask import describe
from btcchat.commands.options import load_processor
from btcchat.commands.options import reading as reading_of
from btcchat.errors import BTCChatError
from btcchat.media import Reading
from btcchat.train.arguments import DataArguments
from tests.media.scenes import cover, scene, write

COMMANDS = ["caption", "ask", "chat", "eval tiny mine", "augment mine --clue_model tiny --out x", "data check mine"]
FLAGS = ["--bands", "3,2,1", "--stretch", "per-date", "--nodata", "-9999"]
READING = Reading((3, 2, 1), "per-date", -9999.0)


@pytest.fixture(scope="module")
def model():
    return BTCChat.from_pretrained(device="cpu", reading=READING)


@pytest.fixture
def pair(tmp_path):
    before = scene("reflectance")
    after, _ = cover(before, "reflectance", "cloud", share=0.1)
    return [str(write(tmp_path / f"{name}.tif", values)) for name, values in (("before", before), ("after", after))]


@pytest.mark.parametrize("command", [*COMMANDS, "data show mine"])
def test_every_command_that_reads_images_has_the_flags(command):
    parser = cli.build_parser()
    assert reading_of(parser.parse_args(command.split())) == Reading()
    assert reading_of(parser.parse_args([*command.split(), *FLAGS])) == READING


def test_training_has_the_flags():
    assert DataArguments(data_mixture="mine").reading == Reading()
    assert DataArguments("mine", bands="3,2,1", stretch="per-date", nodata="-9999").reading == READING


def test_an_invalid_flag_is_an_error_before_anything_is_loaded(pair, capsys, monkeypatch):
    from btcchat.commands import options

    monkeypatch.setattr(options, "load_model", lambda args: pytest.fail("loaded a model for nothing"))
    for command in (["caption", *pair], ["ask", "Q", "--pair", *pair], ["chat", "--pair", *pair]):
        assert cli.main([*command, "--stretch", "shard"]) == 2
        assert "--stretch shard: expected shared, per-date, none or LOW,HIGH" in capsys.readouterr().err


def test_the_model_its_processor_its_maps_and_its_clues_read_images_alike(model, pair):
    def pixels() -> np.ndarray:
        return model.processor(request("What changed?", "pair", pair), train=False)["frames"].numpy()

    assert model.processor.reading == READING
    as_told, map_as_told = pixels(), model.change_map(*pair)
    assert describe(None, model)["reading"] == {"bands": "3,2,1", "stretch": "per-date", "nodata": "-9999.0"}
    model.processor.reading = Reading()
    try:
        assert np.abs(pixels().astype(int) - as_told).mean() > 20
        assert np.abs(model.change_map(*pair) - map_as_told).max() > 0.01
        assert describe(None, model)["reading"]["stretch"] == "shared"
    finally:
        model.processor.reading = READING


def test_a_processor_without_a_model_follows_the_flags():
    args = cli.build_parser().parse_args(["data", "check", "mine", *FLAGS])
    assert load_processor(args).reading == READING
    assert Processor.from_pretrained("tiny", reading=READING).reading == READING


def test_data_check_reads_files_with_the_requested_bands(tmp_path, pair, capsys):
    talk = [{"from": "human", "value": "What changed?"}, {"from": "gpt", "value": "a cloud"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"modality": "pair", "images": pair, "conversations": talk}))
    (tmp_path / "sets.yaml").write_text("mine: {annotation: rows.jsonl, images: .}")
    command = [
        "data",
        "check",
        "mine",
        "--data_root",
        str(tmp_path),
        "--mixture_folder",
        str(tmp_path),
        "--workers",
        "0",
    ]
    assert cli.main(command) == 0
    assert cli.main([*command, "--bands", "5,4,3"]) == 3
    assert "has 3 bands, but --bands is 5,4,3" in capsys.readouterr().out


def test_an_invalid_reading_is_an_error():
    with pytest.raises(TypeError, match="reading must be a btcchat.media.Reading"):
        BTCChat.from_pretrained(reading="shared")
    with pytest.raises(BTCChatError, match="unknown stretch 'per date' .did you mean 'per-date'"):
        Reading(stretch="per date")


def test_a_caption_of_16_bit_files_reports_how_they_were_read(pair, capsys):
    assert (
        cli.main(["caption", *pair, "--json", "--stretch", "per-date", "--device", "cpu", "--max-new-tokens", "2"]) == 0
    )
    out, err = capsys.readouterr()
    assert json.loads(out)["stretch"] == "per-date"
    assert "taken as red, green, blue" in err and "(stretch per-date)" in err and "rasterio" not in err
