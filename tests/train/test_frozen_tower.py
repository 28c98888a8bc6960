"""A frozen tower under --bf16: computed in bfloat16 from end to end, saved as it was."""

import pytest
import torch

from btcchat import BTCChat
from btcchat.train.frozen_tower import FrozenTower

TUNE = {"tune_mm_projector": True, "tune_language_model": True, "max_steps": 4}


@pytest.fixture
def dtypes(monkeypatch):
    """The precision of the weights at each call of a tower."""
    from btcchat.multimodal_encoder.siglip import SiglipTower

    seen, forward = [], SiglipTower.forward

    def call(self, pixel_values):
        seen.append(next(self.parameters()).dtype)
        return forward(self, pixel_values)

    monkeypatch.setattr(SiglipTower, "forward", call)
    return seen


def test_a_frozen_tower_is_cast_once_and_saved_as_it_was(run, checkpoint, tmp_path, dtypes):
    trainer = run("pairs+images", **TUNE, bf16=True, output_dir=tmp_path / "run")
    assert set(dtypes) == {torch.bfloat16}
    start, end = (BTCChat.from_pretrained(folder, dtype="float32") for folder in (checkpoint, tmp_path / "run"))
    weights = start.vision_tower.state_dict()
    assert any(not torch.equal(value, value.bfloat16().float()) for value in weights.values()), "finer than bfloat16"
    for name, value in end.vision_tower.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert isinstance(trainer.encoder.tower, FrozenTower)
    assert trainer.model.state_dict().keys() == start.state_dict().keys()


@pytest.mark.parametrize("flags", [{"bf16": True, "tune_vision_tower": True}, {"bf16": False}])
def test_a_trained_tower_and_a_run_in_float32_have_no_copy(run, dtypes, flags):
    trainer = run("pairs", **TUNE, **flags)
    assert trainer.encoder.tower is None and set(dtypes) == {torch.float32}


def test_its_features_are_those_of_autocast(checkpoint):
    tower = BTCChat.from_pretrained(checkpoint, device="cpu", dtype="float32").vision_tower
    torch.manual_seed(0)
    pixels = torch.randn(3, 3, tower.resolution, tower.resolution)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        (expected,) = tower(pixels)
        (found,) = FrozenTower(tower)(pixels)
    assert found.dtype == torch.bfloat16
    assert (found - expected).norm() < 0.02 * expected.norm()
