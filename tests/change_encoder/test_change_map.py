import json

import numpy as np
import pytest
import torch
from PIL import Image

from btcchat import cli
from btcchat.change_encoder.change_map import at_size, overlay
from btcchat.commands import options
from tests.tiny import tiny_model

CONCAT = {"change_encoder_type": "concat"}


@pytest.fixture(scope="module", params=["attentive", "concat", "difference_aware"])
def model(request, tmp_path_factory):
    encoder = {"change_encoder_type": request.param}
    depths = {"mm_vision_select_layer": [-2, -1]} if request.param == "difference_aware" else {}
    return tiny_model(tmp_path_factory.mktemp("model"), change_encoder=encoder, image_aspect_ratio="pad", **depths)


def noise(seed, width=64, height=64):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def with_patch(image, box):
    changed = image.copy()
    changed.paste(noise(99).resize((box[2] - box[0], box[3] - box[1])), box[:2])
    return changed


def test_the_map_of_equal_dates_is_zero(model):
    image = noise(0)
    np.testing.assert_allclose(model.change_map(image, image), np.zeros((64, 64)), atol=1e-5)


def test_the_map_is_largest_where_the_change_is(model):
    model.vision_tower.eval()
    before = Image.new("RGB", (64, 64), (90, 90, 90))
    after = before.copy()
    after.paste((240, 20, 20), (48, 0, 64, 16))
    field = model.change_map(before, after)
    assert field.shape == (64, 64) and field.dtype == np.float32 and field.min() >= 0 and field.max() <= 1
    row, column = np.unravel_index(field.argmax(), field.shape)
    assert row < 20 and column > 44


def test_the_map_has_the_size_of_the_image_after_without_the_padding(model):
    wide = noise(1, 96, 48)
    field = model.change_map(wide, with_patch(wide, (0, 0, 24, 24)))
    assert field.shape == (48, 96)
    square = model.change_map(wide.resize((96, 96)), wide.resize((96, 96)))
    assert square.shape == (96, 96)


@pytest.mark.parametrize(("width", "height"), [(96, 48), (48, 96)])
def test_the_padding_is_cut_off_on_both_sides(width, height):
    """The image is in the middle of the square that the grid covers: rows or columns 2 to 5 of 8."""
    grid = torch.zeros(8, 8)
    grid[2, 2] = 1.0
    field = at_size(grid, width, height, padded=True)
    row, column = np.unravel_index(field.argmax(), field.shape)
    top, left = (0, 24) if width > height else (24, 0)
    assert field.shape == (height, width) and top <= row < top + 12 and left <= column < left + 12
    assert at_size(grid, width, height, padded=False).argmax() != field.argmax()


def test_an_encoder_without_a_distance_uses_that_of_the_towers_features(model):
    class Bare(torch.nn.Module):
        segments = 1

    image, other = noise(2), noise(3)
    parts = {name: getattr(model, name) for name in ("vision_tower", "mm_projector", "llm", "processor")}
    assert type(model)(change_encoder=Bare(), **parts).change_map(image, other).max() > 0


def test_the_overlay_is_red_where_the_map_is_high_and_the_image_where_it_is_low():
    change = np.zeros((8, 8), dtype=np.float32)
    change[2, 3] = 0.4
    pixels = np.asarray(overlay(change, Image.new("RGB", (8, 8), (0, 100, 0))))
    assert pixels[2, 3, 0] > 150 and tuple(pixels[5, 5]) == (0, 100, 0)
    flat = np.asarray(overlay(np.full((8, 8), 0.3, np.float32), Image.new("RGB", (8, 8), (0, 100, 0))))
    assert (flat == (0, 100, 0)).all()
    rounding = np.random.default_rng(0).random((8, 8)).astype(np.float32) * 1e-7  # of two equal images
    assert (np.asarray(overlay(rounding, Image.new("RGB", (8, 8), (0, 100, 0)))) == (0, 100, 0)).all()


def test_caption_draws_the_map(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(options, "load_model", lambda args: model)
    noise(4).save(tmp_path / "a.png")
    with_patch(noise(4), (0, 0, 16, 16)).save(tmp_path / "b.png")
    out = tmp_path / "map.png"
    words = ["caption", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--max-new-tokens", "2", "--json"]
    assert cli.main([*words, "--change-map", str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["change_map"] == str(out)
    assert Image.open(out).size == (64, 64)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "map.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--example", "--change-map", "map.jpg"], "ends in .png"),
        (["--example", "--change-map", "nowhere/map.png"], "folder of --change-map does not exist"),
        (["--pairs", "x.csv", "--out", "y.jsonl", "--change-map", "map.png"], "leave out --pairs"),
    ],
)
def test_a_bad_change_map_is_reported_before_the_model_is_loaded(words, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(options, "load_model", lambda args: pytest.fail("loaded a model for nothing"))
    assert cli.main(["caption", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_map_is_drawn_between_the_centres_of_its_patches():
    field = at_size(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), width=4, height=2, padded=False)
    assert field.tolist() == [[0, 0.25, 0.75, 1]] * 2
