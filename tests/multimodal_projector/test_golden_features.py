"""Images of the golden checkpoint all the way to the language model's input: tower, change encoder, projector."""

import json
import re

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from btcchat.change_encoder import build_change_encoder
from btcchat.change_encoder.attentive import UNUSED_KEYS as UNUSED_CHANGE_KEYS
from btcchat.multimodal_encoder import UNUSED_KEYS as UNUSED_VISION_KEYS
from btcchat.multimodal_encoder import build_vision_tower
from btcchat.multimodal_encoder.preprocess import ImageProcessor
from btcchat.multimodal_projector import build_projector


def published(file, prefix="", unused=()):
    """The used weights below ``prefix``, in float32."""
    weights = {k.removeprefix(prefix): v.float() for k, v in load_file(file).items() if k.startswith(prefix)}
    return {key: value for key, value in weights.items() if not any(re.fullmatch(p, key) for p in unused)}


@pytest.fixture
def checkpoint(shared):
    """(tower, change encoder, projector, image processor) of the golden checkpoint, and its folder."""
    folder = shared / "golden/unirs/checkpoint"
    config = json.loads((folder / "config.json").read_text())
    arguments = json.loads((folder.parent / "checkpoint_golden.json").read_text())["eval_args"]
    vision, projector_file = folder / "vision_tower", folder / "mm_projector/model.safetensors"
    tower = build_vision_tower(
        json.loads((vision / "config.json").read_text()),
        select_layer=config["mm_vision_select_layer"],
        select_feature=config["mm_vision_select_feature"],
    ).eval()
    tower.load_state_dict(published(vision / "model.safetensors", unused=UNUSED_VISION_KEYS))
    encoder = build_change_encoder(
        {"change_encoder_type": config["chg_type"]} | {k: v for k, v in arguments.items() if k.startswith("cc_")},
        hidden_size=tower.hidden_size,
        grid=tower.grid,
        num_depths=tower.num_depths,
    ).eval()
    encoder.load_state_dict(published(projector_file, "layers.change.", UNUSED_CHANGE_KEYS))
    projector = build_projector(
        {"mm_projector_type": config["mm_projector_cfg"]["mm_projector_type"]},
        in_features=tower.hidden_size,
        out_features=config["hidden_size"],
    )
    projector.load_state_dict(published(projector_file, "layers.single."))
    processor = ImageProcessor.from_config(
        json.loads((vision / "preprocessor_config.json").read_text()), config["image_aspect_ratio"]
    )
    return tower, encoder, projector, processor, folder


@torch.no_grad()
def test_image_features_of_the_golden_checkpoint_match(checkpoint):
    tower, encoder, projector, processor, folder = checkpoint
    golden = load_file(folder.parent / "checkpoint_golden.safetensors")
    cases = json.loads((folder.parent / "checkpoint_golden.json").read_text())["cases"]
    compared = 0
    for case in cases:
        if not case["images"]:
            continue
        images = [Image.open(folder.parent / "checkpoint_images" / name).convert("RGB") for name in case["images"]]
        pixels = processor.normalise(torch.stack([processor(image) for image in images]))
        assert (pixels - golden[f"{case['name']}.pixel_values"]).abs().max() <= 1 / 127.5, case["name"]
        features = torch.stack(tower(golden[f"{case['name']}.pixel_values"]), dim=1)  # (T, S, L, C)
        segments = encoder(features[None])[0] if case["kind"] == "pair" else features[:, -1]
        expected = golden[f"{case['name']}.image_features"]
        torch.testing.assert_close(projector(segments), expected, atol=1e-4, rtol=0, msg=case["name"])
        compared += 1
    assert compared >= 3
