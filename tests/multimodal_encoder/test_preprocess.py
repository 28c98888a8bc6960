import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from btcchat.errors import BTCChatError
from btcchat.multimodal_encoder.preprocess import ImageProcessor, pad_to_square

GREY_LEVEL = 1 / 127.5  # one step of uint8 after (x / 255 - 0.5) / 0.5
HALF = [0.5, 0.5, 0.5]


def pixels_of(processor: ImageProcessor, image: Image.Image) -> torch.Tensor:
    return processor.normalise(processor(image))


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_pixels_match_the_golden_ones_to_one_level(shared):
    folder = shared / "golden/unirs/siglip"
    cases = json.loads((folder / "cases.json").read_text())
    config = json.loads((folder / "preprocessor_config.json").read_text())
    small, big = cases["processor_size"], cases["processor_size_big"]
    variants = {  # prefix of the golden name -> size in preprocessor_config.json, aspect ratio
        "pad_big": ({"height": big, "width": big}, "pad"),
        "shortest_edge": ({"shortest_edge": small}, "resize"),
    } | {mode: (config["size"], mode) for mode in cases["modes"]}

    golden = load_file(folder / "pixel_values.safetensors")
    images = {name: Image.open(folder / "images" / name).convert("RGB") for name in cases["images"]}
    processor = ImageProcessor.from_config(config, "resize")
    batch = processor.normalise(torch.stack([processor(images[name]) for name in cases["images"]]))
    assert (batch - golden.pop("preprocess_batch")).abs().max() <= GREY_LEVEL
    for key, expected in golden.items():
        variant, name = key.split("/")
        size, aspect_ratio = variants[variant]
        pixels = pixels_of(ImageProcessor.from_config(config | {"size": size}, aspect_ratio), images[name])
        assert pixels.shape == expected.shape, key
        assert (pixels - expected).abs().max() <= GREY_LEVEL, key


def test_pixels_are_float32_channels_first_and_normalised():
    image = Image.new("RGB", (10, 6), (255, 0, 51))
    processor = ImageProcessor((4, 8), HALF, HALF, aspect_ratio="resize")
    assert processor(image).dtype == torch.uint8 and processor(image)[:, 2, 5].tolist() == [255, 0, 51]
    pixels = pixels_of(processor, image)
    assert pixels.dtype == torch.float32
    assert pixels.is_contiguous()
    torch.testing.assert_close(pixels, torch.tensor([1.0, -1.0, -0.6]).view(3, 1, 1).expand(3, 4, 8))


def test_pad_keeps_the_aspect_on_a_grey_canvas_and_resize_squashes():
    image = Image.new("RGB", (8, 4), (255, 255, 255))
    padded = pixels_of(ImageProcessor((8, 8), HALF, HALF, aspect_ratio="pad"), image)
    grey = 127 / 127.5 - 1
    torch.testing.assert_close(padded[:, 0], torch.full((3, 8), grey), atol=1e-6, rtol=0)
    torch.testing.assert_close(padded[:, 2:6], torch.ones(3, 4, 8))
    torch.testing.assert_close(padded[:, 7], torch.full((3, 8), grey), atol=1e-6, rtol=0)
    assert pixels_of(ImageProcessor((8, 8), HALF, HALF, aspect_ratio="resize"), image).min() == 1


def test_an_extra_column_of_the_canvas_goes_to_the_right():
    canvas = pad_to_square(Image.new("RGB", (1, 4), (9, 9, 9)), (127, 127, 127))
    assert np.asarray(canvas)[0, :, 0].tolist() == [127, 9, 127, 127]


def test_shortest_edge_keeps_the_aspect():
    processor = ImageProcessor.from_config({"size": {"shortest_edge": 10}}, "resize")
    assert processor(noise(33, 20)).shape == (3, 10, 16)
    assert processor(noise(20, 33)).shape == (3, 16, 10)


def test_a_tower_of_other_statistics_pads_with_its_own_mean():
    mean, std = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
    pixels = pixels_of(ImageProcessor((6, 6), mean, std, aspect_ratio="pad"), Image.new("RGB", (6, 2)))
    assert pixels[:, 0].abs().max() < 0.02  # the canvas is the mean, to the grey level below
    torch.testing.assert_close(pixels[:, 3, 3], -torch.tensor(mean) / torch.tensor(std))


@pytest.mark.parametrize("size", [{"height": 6, "width": 6}, {"shortest_edge": 6}])
@pytest.mark.parametrize("aspect_ratio", ["pad", "resize", "square"])
def test_the_config_round_trip_gives_the_same_pixels(size, aspect_ratio):
    processor = ImageProcessor.from_config({"size": size, "image_mean": [0.1, 0.2, 0.3], "resample": 2}, aspect_ratio)
    again = ImageProcessor.from_config(json.loads(json.dumps(processor.to_config())), aspect_ratio)
    image = noise(13, 9)
    torch.testing.assert_close(pixels_of(again, image), pixels_of(processor, image), atol=0, rtol=0)


def test_do_rescale_and_do_normalize_of_the_config_are_respected():
    image = noise(6, 6)
    raw = pixels_of(ImageProcessor.from_config({"size": 6, "do_normalize": False, "do_rescale": False}), image)
    torch.testing.assert_close(raw, torch.from_numpy(np.array(image)).permute(2, 0, 1).float())


def test_no_aspect_ratio_means_resize_and_an_unknown_one_is_an_error():
    assert ImageProcessor.from_config({"size": 6}, None).aspect_ratio == "resize"
    with pytest.raises(BTCChatError, match="unknown image_aspect_ratio 'padd' .*choose from pad, resize, square"):
        ImageProcessor.from_config({"size": 6}, "padd")
    with pytest.raises(BTCChatError, match="neither height, width nor shortest_edge"):
        ImageProcessor.from_config({"size": {"longest_edge": 6}})
