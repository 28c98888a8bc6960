"""Images in memory: numpy arrays and torch tensors give the image they were made from."""

import numpy as np
import pytest
import torch
from PIL import Image

from btcchat.errors import BTCChatError
from btcchat.media import load_frames, load_image

LEVELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
COLOUR, GREY = Image.fromarray(LEVELS), Image.fromarray(LEVELS[..., 0])
FORMS = {
    "uint8 (H, W, 3)": (COLOUR, LEVELS),
    "uint8 (H, W, 3), not contiguous": (COLOUR, np.ascontiguousarray(LEVELS[::-1])[::-1]),
    "float32 (H, W, 3)": (COLOUR, LEVELS.astype(np.float32) / 255),
    "float64 (H, W, 3)": (COLOUR, LEVELS / 255),
    "float16 (H, W, 3)": (COLOUR, (LEVELS / 255).astype(np.float16)),
    "uint8 (H, W)": (GREY, LEVELS[..., 0]),
    "float32 (H, W)": (GREY, LEVELS[..., 0].astype(np.float32) / 255),
    "uint8 tensor (3, H, W)": (COLOUR, torch.from_numpy(LEVELS).permute(2, 0, 1)),
    "float32 tensor (3, H, W)": (COLOUR, torch.from_numpy(LEVELS).permute(2, 0, 1) / 255),
    "float32 tensor with a gradient": (COLOUR, (torch.from_numpy(LEVELS).permute(2, 0, 1) / 255).requires_grad_()),
    "float16 tensor (3, H, W)": (COLOUR, (torch.from_numpy(LEVELS).permute(2, 0, 1) / 255).half()),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_array_gives_the_image_it_was_made_from(form):
    image, array = FORMS[form]
    loaded = load_image(array)
    assert loaded.mode == "RGB"
    assert (np.asarray(loaded) == np.asarray(image.convert("RGB"))).all()


@pytest.mark.parametrize("form", ["uint8 (H, W, 3)", "uint8 tensor (3, H, W)"])
def test_drawing_on_the_image_of_an_array_does_not_change_the_array(form):
    _, array = FORMS[form]
    load_image(array).putpixel((0, 0), (1, 2, 3))
    assert (np.asarray(COLOUR) == LEVELS).all()


FAULTS = {
    "an array of shape (20, 30, 4) is not an image": np.zeros((20, 30, 4), np.uint8),
    "an array of shape (3, 20, 30) is not an image": np.zeros((3, 20, 30), np.uint8),
    "an array of shape (2, 20, 30, 3) is not an image": np.zeros((2, 20, 30, 3), np.uint8),
    "an array of shape (20,) is not an image": np.zeros(20, np.uint8),
    "an array of shape () is not an image": np.array(5, np.uint8),
    "an array of shape (0, 30, 3) is not an image": np.zeros((0, 30, 3), np.uint8),
    "a torch tensor of shape (20, 30, 3) is not an image": torch.zeros(20, 30, 3),
    "a torch tensor of shape (20, 30) is not an image": torch.zeros(20, 30),
    "a torch tensor of shape (1, 3, 20, 30) is not an image": torch.zeros(1, 3, 20, 30),
    "an image of int64 has no known range of values": np.zeros((20, 30, 3), np.int64),
    "an image of uint16 has no known range of values": np.zeros((20, 30), np.uint16),
    "an image of bool has no known range of values": np.zeros((20, 30), bool),
    "an image of complex64 has no known range of values": np.zeros((20, 30), np.complex64),
    "an image of float32 has values from 0 to 255;": LEVELS.astype(np.float32),
    "an image of float32 has values from -0.5 to 0.5;": np.linspace(-0.5, 0.5, 600, dtype=np.float32).reshape(20, 30),
    "an image of float32 has values from nan to nan;": np.full((20, 30), np.nan, np.float32),
}


@pytest.mark.parametrize("message", FAULTS)
def test_an_array_that_is_not_an_image_is_a_one_line_error(message):
    for read in (load_image, lambda array: load_frames("pair", [COLOUR, array])):
        with pytest.raises(BTCChatError) as error:
            read(FAULTS[message])
        line = str(error.value)
        assert line.startswith(message) and "\n" not in line
        assert line.endswith(
            "expected a numpy array (H, W) or (H, W, 3) or a torch tensor (3, H, W), of uint8 or of floating point "
            "in 0..1"
        )


def test_an_array_that_is_too_large_is_refused_with_the_limit():
    with pytest.raises(BTCChatError, match="image 'in memory' has 30 x 20 = 600 pixels, the limit is 100"):
        load_image(LEVELS, max_pixels=100)


def test_too_few_arrays_are_named_by_their_shape():
    with pytest.raises(BTCChatError) as error:
        load_frames("pair", LEVELS)
    assert str(error.value) == "1 image (array of shape (20, 30, 3)), a pair needs 2 (before, after)"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from tests.tiny import tiny_model

    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("form", FORMS)
def test_a_model_gives_the_same_answer_for_an_array_and_its_image(model, form):
    image, array = FORMS[form]
    other = COLOUR.rotate(180)
    ways = [
        lambda one: model.ask("What is here?", image=one, max_new_tokens=8),
        lambda one: model.ask("What changed?", pair=(other, one), max_new_tokens=8),
        lambda one: model.ask("What happened?", series=[one, other, one], max_new_tokens=8),
        lambda one: model.ask("What happens?", video=[one, other], max_new_tokens=8),
        lambda one: model.caption(one, other, max_new_tokens=8),
        lambda one: "".join(model.stream("What is here?", image=one, max_new_tokens=8)),
    ]
    for way in ways:
        assert way(array) == way(image)
    assert len({way(image) for way in ways[:5]}) > 1
    assert (model.change_map(other, array) == model.change_map(other, image)).all()
    assert (model.change_map(array, array) == model.change_map(image, image)).all()
    assert model.change_map(array, array).max() < model.change_map(other, array).max()
