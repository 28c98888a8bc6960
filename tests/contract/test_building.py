"""A part from outside the package is checked when a model is built: errors name it, and nothing else changes."""

import logging
import random
import re

import numpy as np
import pytest
import torch

from btcchat import BTCChat, BTCChatError
from btcchat.change_encoder import CHANGE_ENCODERS, contract
from btcchat.multimodal_encoder import VISION_TOWERS
from btcchat.multimodal_encoder.contract import check_tower
from btcchat.multimodal_projector import PROJECTORS
from btcchat.processor import Processor
from btcchat.registry import Row
from tests.contract import encoders
from tests.contract.encoders import FINDINGS
from tests.contract.parts import (
    HalfOfThem,
    InFloat64,
    KeepsTheWidth,
    NoDepths,
    NoNumTokens,
    OneTensor,
    Projector,
    Tower,
)
from tests.tiny import tiny_model

MINE = {"change_encoder_type": "mine"}


def register(monkeypatch, table, name, part) -> None:
    """Put a row in a table, even if the name is in use, which registering refuses."""
    monkeypatch.setitem(table._rows, name, Row(part, part.__module__, part.__module__))


def model_with(folder, monkeypatch, part, **fields):
    register(monkeypatch, CHANGE_ENCODERS, "mine", part)
    return tiny_model(folder, change_encoder=MINE, **fields)


def line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


FAULTS = [encoders.NoSegments, encoders.OtherConstructor, encoders.ThreeDimensions, encoders.WrongNumTokens]


@pytest.mark.parametrize("part", [*FAULTS, encoders.OnlyEvenGrids, encoders.OnTheCPU], ids=lambda part: part.__name__)
def test_building_a_model_names_the_change_encoder_that_breaks_its_contract(part, tmp_path, monkeypatch):
    with pytest.raises(BTCChatError) as error:
        model_with(tmp_path, monkeypatch, part)
    assert line(error).startswith(f"change encoder 'mine' (tests.contract.encoders.{part.__name__}) ")
    words = FINDINGS[part][2].replace("16, 32", "16, 16")  # the tower's width
    assert re.search(words, error.value.args[0]), line(error)


def test_tokens_that_the_projector_does_not_take_are_blamed_on_the_change_encoder(tmp_path, monkeypatch):
    class SevenTokens(encoders.Difference):
        def num_tokens(self, count):
            return 7

    tiny_model(tmp_path / "own").save_pretrained(tmp_path / "saved")
    register(monkeypatch, CHANGE_ENCODERS, "mine", SevenTokens)
    with pytest.raises(BTCChatError) as error:
        BTCChat.from_pretrained(tmp_path / "saved", chg_type="mine", fresh_change_encoder=True)
    assert re.match(r"change encoder 'mine': num_tokens\(\d+\) is 7, but projector 'mlp_downsample'", line(error))
    assert "correct num_tokens, or use another projector" in line(error)


def test_a_saved_model_is_checked_when_it_is_loaded(tmp_path, monkeypatch):
    model_with(tmp_path, monkeypatch, encoders.Difference).save_pretrained(tmp_path / "saved")
    register(monkeypatch, CHANGE_ENCODERS, "mine", encoders.ThreeDimensions)
    with pytest.raises(
        BTCChatError, match=r"^change encoder 'mine' .*ThreeDimensions\) breaks its contract \(output\)"
    ):
        BTCChat.from_pretrained(tmp_path / "saved")


def test_opening_only_the_processor_checks_the_attributes(tmp_path, monkeypatch):
    model_with(tmp_path, monkeypatch, encoders.Difference).save_pretrained(tmp_path / "saved")
    register(monkeypatch, CHANGE_ENCODERS, "mine", encoders.NoSegments)
    with pytest.raises(BTCChatError, match=r"NoSegments\) breaks its contract \(attributes\): the attribute segments"):
        Processor.from_pretrained(tmp_path / "saved")


def test_an_option_without_a_default_is_named(tmp_path, monkeypatch):
    class Needs(encoders.Difference):
        def __init__(self, *, hidden_size, grid, num_depths, rank):
            super().__init__(hidden_size=hidden_size, grid=grid, num_depths=num_depths)

    with pytest.raises(BTCChatError, match=r"change encoder 'mine' .* cannot be built: .*missing a required .*'rank'"):
        model_with(tmp_path, monkeypatch, Needs)


def test_what_may_be_intended_is_logged_once(tmp_path, monkeypatch, caplog):
    with caplog.at_level(logging.WARNING, logger="btcchat"):
        model_with(tmp_path, monkeypatch, encoders.OrderIgnored)
    (record,) = caplog.records
    assert record.getMessage().startswith("change encoder 'mine' (tests.contract.encoders.OrderIgnored) (dates): the ")


def test_the_check_changes_neither_weights_nor_random_numbers(tmp_path, monkeypatch):
    class Counted(encoders.Difference):
        built = 0

        def __init__(self, **sizes):
            super().__init__(**sizes)
            Counted.built += 1

    def built(folder):
        random.seed(3), np.random.seed(3)
        model = model_with(folder, monkeypatch, Counted)
        drawn = random.random(), float(np.random.random()), float(torch.rand(()))
        return model.state_dict(), drawn

    with_check, drawn = built(tmp_path / "with")
    assert Counted.built > 4
    monkeypatch.setattr(contract, "encoder_checks", lambda *_, **__: [])
    Counted.built = 0
    without, drawn_without = built(tmp_path / "without")
    assert Counted.built == 1
    random.seed(3), np.random.seed(3)
    assert drawn == drawn_without and drawn[:2] == (random.random(), float(np.random.random()))
    assert all(torch.equal(with_check[key], value) for key, value in without.items())


@pytest.mark.parametrize("name", CHANGE_ENCODERS)
def test_our_own_parts_are_not_checked(name, tmp_path, monkeypatch):
    def unexpected(*_, **__):
        raise AssertionError("checked")

    monkeypatch.setattr(contract, "run_checks", unexpected)
    monkeypatch.setattr("btcchat.multimodal_projector.contract.run_checks", unexpected)
    monkeypatch.setattr("btcchat.multimodal_encoder.contract.run_checks", unexpected)
    tiny_model(tmp_path, change_encoder={"change_encoder_type": name}).save_pretrained(tmp_path / "saved")
    BTCChat.from_pretrained(tmp_path / "saved")


def test_an_encoder_for_one_grid_and_several_depths_is_checked_at_those(tmp_path, monkeypatch):
    class Fixed(encoders.Difference):
        def __init__(self, *, hidden_size, grid, num_depths):
            super().__init__(hidden_size=hidden_size, grid=grid, num_depths=num_depths)
            if (grid, num_depths) != (4, 3):
                raise ValueError("made for three depths of a 4x4 grid")

    model_with(tmp_path / "fits", monkeypatch, Fixed, mm_vision_select_layer=[0, 1, 2])
    with pytest.raises(BTCChatError, match="ValueError: made for three depths"):
        model_with(tmp_path / "not", monkeypatch, Fixed, mm_vision_select_layer=[1, 2])


# -- projectors --------------------------------------------------------------------------------------------------------


PROJECTOR_FAULTS = {
    HalfOfThem: r"\(output\): returned \(3, 16, 32\) for .* expected \(K, M, D\) = \(3, 8, 32\), where num_tokens",
    KeepsTheWidth: r"\(output\): returned \(3, 16, 16\) for \(3, 16, 16\); expected \(K, M, D\) = \(3, 16, 32\)",
    NoNumTokens: r"\(attributes\): the method num_tokens is missing; expected a method num_tokens\(L\)",
}


@pytest.mark.parametrize("part", PROJECTOR_FAULTS, ids=lambda part: part.__name__)
def test_building_a_model_names_the_projector_that_breaks_its_contract(part, tmp_path, monkeypatch):
    monkeypatch.setitem(PROJECTORS, "mine", part)
    with pytest.raises(BTCChatError) as error:
        tiny_model(tmp_path, mm_projector={"mm_projector_type": "mine"})
    assert line(error).startswith(f"projector 'mine' (tests.contract.parts.{part.__name__}) breaks its contract ")
    assert re.search(PROJECTOR_FAULTS[part], line(error)), line(error)


def test_a_projector_that_fulfils_its_contract_is_built(tmp_path, monkeypatch):
    monkeypatch.setitem(PROJECTORS, "mine", Projector)
    assert type(tiny_model(tmp_path, mm_projector={"mm_projector_type": "mine"}).mm_projector) is Projector


# -- vision towers -----------------------------------------------------------------------------------------------------


TOWER_FAULTS = {
    OneTensor: r"\(output\): returned \(3, 16, 16\) at 32 pixels, 1 depth; expected a list: 1 of \(N, L, C\)",
    InFloat64: r"\(dtype\): returned float64 with weights in float32 at 32 pixels",
    NoDepths: r"\(attributes\): num_depths is None; expected a whole number of at least 1: S, the selected layers",
}


@pytest.mark.parametrize("part", TOWER_FAULTS, ids=lambda part: part.__name__)
def test_loading_a_model_names_the_tower_that_breaks_its_contract(part, tmp_path, monkeypatch):
    tiny_model(tmp_path).save_pretrained(tmp_path / "saved")
    register(monkeypatch, VISION_TOWERS, "siglip", part)
    with pytest.raises(BTCChatError) as error:
        BTCChat.from_pretrained(tmp_path / "saved")
    assert line(error).startswith(f"vision tower 'siglip' (tests.contract.parts.{part.__name__}) breaks its ")
    assert re.search(TOWER_FAULTS[part], line(error)), line(error)


def test_the_check_does_not_change_the_tower_of_the_model(tmp_path, monkeypatch):
    tiny_model(tmp_path).save_pretrained(tmp_path / "saved")
    register(monkeypatch, VISION_TOWERS, "siglip", Tower)
    model = BTCChat.from_pretrained(tmp_path / "saved", device="cpu")
    assert type(model.vision_tower) is Tower
    ours = tiny_model(tmp_path).vision_tower.state_dict()
    assert all(torch.equal(value, ours[key]) for key, value in model.vision_tower.state_dict().items())
    model.vision_tower.train().vision_model["embeddings"].eval()
    before = [module.training for module in model.vision_tower.modules()]
    check_tower("siglip", model.vision_tower)
    assert [module.training for module in model.vision_tower.modules()] == before
