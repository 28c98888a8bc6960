import json
import re

import pytest
import torch
import transformers
from safetensors.torch import load_file

from btcchat.checkpoint.weights import load_strict
from btcchat.errors import BTCChatError
from btcchat.multimodal_encoder import build_vision_tower
from btcchat.multimodal_encoder.protocol import VisionTower
from btcchat.multimodal_encoder.siglip import UNUSED_KEYS, interpolate_rows
from tests.backbones import SIGLIP2_VISION

TINY = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 20,
    "patch_size": 4,
}


def tiny_tower(select_layer=-2, select_feature="cls_patch", **changes):
    torch.manual_seed(0)
    config = TINY | changes
    return build_vision_tower(config, select_layer=select_layer, select_feature=select_feature).eval()


def golden_tower(folder, select_layer, select_feature):
    config = json.loads((folder / "config.json").read_text())
    tower = build_vision_tower(config, select_layer=select_layer, select_feature=select_feature).eval()
    weights = load_file(folder / "state_dict.safetensors")
    unused = [key for key in weights if any(re.fullmatch(pattern, key) for pattern in UNUSED_KEYS)]
    tower.load_state_dict({key: value for key, value in weights.items() if key not in unused})
    return tower


@torch.no_grad()
def test_a_tower_fulfils_the_contract():
    tower = tiny_tower([1, -1])
    assert isinstance(tower, VisionTower)
    depths = tower(torch.randn(3, 3, tower.resolution, tower.resolution))
    assert [depth.shape for depth in depths] == [(3, tower.num_tokens, tower.hidden_size)] * tower.num_depths


@torch.no_grad()
def test_features_of_published_weights_match_the_golden_numbers(shared):
    folder = shared / "golden/unirs/siglip"
    io = load_file(folder / "io.safetensors")
    compared = 0
    for name, expected in io.items():
        if match := re.fullmatch(r"hidden_states\.(\d+)", name):
            layer, feature = int(match[1]), "cls_patch"
        elif match := re.fullmatch(r"features_layer(-?\d+)_(\w+)", name):
            layer, feature = int(match[1]), match[2]
        else:
            continue
        (features,) = golden_tower(folder, layer, feature)(io["pixel_values"])
        torch.testing.assert_close(features, expected, atol=2e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
        compared += 1
    assert compared >= 5


@torch.no_grad()
def test_resized_positions_match_the_golden_ones_except_where_those_are_zero(shared):
    folder = shared / "golden/unirs/siglip"
    cases = json.loads((folder / "cases.json").read_text())
    golden = load_file(folder / "resize_pos.safetensors")
    for resolution in cases["resize_resolutions"]:
        tower = golden_tower(folder, -2, "cls_patch")
        original = tower.vision_model["embeddings"]["position_embedding"].weight.clone()
        tower.resize(resolution)
        position = tower.vision_model["embeddings"]["position_embedding"].weight
        expected = golden[f"r{resolution}.position_embedding"]
        zero = torch.tensor(cases["zero_position_rows"][str(resolution)])
        kept = torch.ones(len(expected), dtype=torch.bool).index_fill(0, zero, False)
        torch.testing.assert_close(position[kept], expected[kept], atol=2e-5, rtol=0)

        # The published code zeroes the rows that fall on an old row; ours are those old rows.
        places = zero / (len(expected) - 1) * (len(original) - 1)
        torch.testing.assert_close(position[zero], original[places.round().long()], atol=2e-5, rtol=0)

        position.copy_(expected)
        (features,) = tower(golden[f"r{resolution}.pixel_values"])
        torch.testing.assert_close(features, golden[f"r{resolution}.features_layer-2_cls_patch"], atol=2e-5, rtol=0)


def test_a_tower_reports_its_sizes():
    tower = tiny_tower([-1, 1])
    assert (tower.hidden_size, tower.resolution, tower.grid, tower.num_tokens, tower.num_depths) == (16, 20, 5, 25, 2)
    assert tiny_tower(select_feature="patch").num_tokens == 24
    assert [tuple(x.shape) for x in tower(torch.randn(3, 3, 20, 20))] == [(3, 25, 16)] * 2


@torch.no_grad()
def test_several_layers_come_in_the_order_asked_for():
    pixels = torch.randn(2, 3, 20, 20)
    everything = tiny_tower([0, 1, 2, 3, 4])(pixels)
    mixed = tiny_tower([-1, 0, -3])(pixels)
    for got, layer in zip(mixed, [4, 0, 2], strict=True):
        torch.testing.assert_close(got, everything[layer], atol=0, rtol=0)


@torch.no_grad()
def test_layers_above_the_deepest_selected_one_are_kept_but_not_computed():
    tower = tiny_tower([-4, -3])
    calls = []
    for number, block in enumerate(tower.vision_model["encoder"]["layers"], start=1):
        block.register_forward_hook(lambda *_, number=number: calls.append(number))
    tower(torch.randn(1, 3, 20, 20))
    assert calls == [1, 2]
    assert "vision_model.encoder.layers.3.mlp.fc1.weight" in tower.state_dict()


@torch.no_grad()
def test_a_batch_equals_one_by_one():
    torch.manual_seed(0)
    tower, pixels = tiny_tower(), torch.randn(4, 3, 20, 20)
    together = tower(pixels)[0]
    apart = torch.cat([tower(image[None])[0] for image in pixels])
    torch.testing.assert_close(together, apart, atol=1e-6, rtol=0)


@torch.no_grad()
def test_patch_drops_the_first_patch_and_nothing_else():
    pixels = torch.randn(1, 3, 20, 20)
    torch.testing.assert_close(tiny_tower(select_feature="patch")(pixels)[0], tiny_tower()(pixels)[0][:, 1:])


@torch.no_grad()
def test_pixels_that_no_whole_patch_covers_are_left_out():
    tower = tiny_tower(image_size=22)
    assert tower.grid == 5
    pixels = torch.randn(1, 3, 22, 22)
    beyond = pixels.clone()
    beyond[..., 20:, :] = beyond[..., :, 20:] = 9
    torch.testing.assert_close(tower(pixels)[0], tower(beyond)[0], atol=0, rtol=0)


@torch.no_grad()
def test_features_have_the_dtype_of_the_weights():
    pixels = torch.randn(1, 3, 20, 20)
    half = tiny_tower().to(torch.bfloat16)(pixels)[0]
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), tiny_tower()(pixels)[0], atol=0.1, rtol=0.1)


@torch.no_grad()
def test_resizing_changes_the_input_size_and_the_config():
    tower = tiny_tower()
    tower.vision_model.requires_grad_(False)
    tower.resize(32)
    assert (tower.grid, tower.num_tokens, tower.config["image_size"]) == (8, 64, 32)
    assert tower.default_preprocessor_config()["size"] == {"height": 32, "width": 32}
    assert not tower.vision_model["embeddings"]["position_embedding"].weight.requires_grad
    assert tower(torch.randn(1, 3, 32, 32))[0].shape == (1, 64, 16)
    with pytest.raises(BTCChatError, match="got images of 20x20 pixels, expected 32x32"):
        tower(torch.randn(1, 3, 20, 20))


def test_interpolation_is_linear_along_the_flat_index():
    rows = torch.tensor([[0.0], [10.0], [30.0]])
    torch.testing.assert_close(interpolate_rows(rows, 5), torch.tensor([[0.0], [5.0], [10.0], [20.0], [30.0]]))
    assert interpolate_rows(rows.bfloat16(), 5).dtype == torch.bfloat16
    torch.testing.assert_close(interpolate_rows(rows, 1), rows[:1])


def test_a_full_siglip_config_gives_its_vision_half():
    config = {"model_type": "siglip", "text_config": {}, "vision_config": TINY}
    tower = build_vision_tower(config, select_layer=-1, select_feature="cls_patch")
    assert tower.hidden_size == 16
    assert tower.config["model_type"] == "siglip_vision_model"


@pytest.mark.skipif(not hasattr(transformers, "SiglipModel"), reason="transformers has SigLIP from 4.37 on")
@torch.no_grad()
def test_a_siglip_2_as_transformers_saves_it_gives_the_outputs_of_its_layers(tmp_path):
    """A SigLIP 2 of a fixed resolution has SigLIP's classes, with a larger vocabulary in the text half."""
    text = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    sizes = {"vision_config": SIGLIP2_VISION, "text_config": text | {"num_attention_heads": 2, "projection_size": 16}}
    torch.manual_seed(0)
    reference = transformers.SiglipModel(transformers.SiglipConfig(**sizes)).eval()
    reference.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    tower = build_vision_tower(config, select_layer=[-3, -2, -1], select_feature="cls_patch").eval()
    load_strict(tower, tmp_path, unused=UNUSED_KEYS)
    pixels = torch.randn(2, 3, 32, 32)
    expected: list[torch.Tensor] = []
    for layer in reference.vision_model.encoder.layers:  # transformers 4.57 returns tuples
        layer.register_forward_hook(lambda *call: expected.append(call[2] if torch.is_tensor(call[2]) else call[2][0]))
    reference.vision_model(pixels)
    for features, hidden in zip(tower(pixels), expected, strict=True):
        torch.testing.assert_close(features, hidden, atol=1e-5, rtol=1e-5)


def test_a_saved_config_builds_the_same_tower_and_leaves_the_given_one_alone():
    given = dict(TINY)
    tower = build_vision_tower(given, select_layer=-2, select_feature="cls_patch")
    tower.resize(32)
    assert given == TINY
    again = build_vision_tower(tower.config, select_layer=-2, select_feature="cls_patch")
    again.load_state_dict(tower.state_dict())


@pytest.mark.parametrize("layer", [5, -6, [-2, 7]])
def test_a_layer_the_tower_lacks_is_an_error_naming_the_layer_count(layer):
    with pytest.raises(BTCChatError, match="out of range: the vision tower has 4 layers"):
        tiny_tower(layer)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vision_tower_type": "sigclip"}, r"unknown vision tower 'sigclip' \(did you mean 'siglip'\?\)"),
        ({"model_type": "clip_vision_model"}, "choose from siglip, siglip_vision_model"),
        ({"model_type": None}, "model_type 'None'"),
        ({"model_type": "siglip2"}, "'siglip2' is SigLIP 2 NaFlex, .*; use a SigLIP 2 of a fixed resolution, e.g. goo"),
        ({"hidden_act": "relu"}, "choose from gelu, gelu_pytorch_tanh"),
        ({"num_attention_heads": 3}, "hidden_size 16 is not a multiple of num_attention_heads 3"),
    ],
)
def test_the_error_says_why_a_config_cannot_be_built(changes, words):
    with pytest.raises(BTCChatError, match=words):
        tiny_tower(**changes)


def test_errors_for_unknown_features_and_empty_configs_say_what_to_choose():
    with pytest.raises(BTCChatError, match="choose from cls_patch, patch"):
        tiny_tower(select_feature="cls")
    with pytest.raises(BTCChatError, match="neither 'vision_tower_type' nor 'model_type'"):
        build_vision_tower({}, select_layer=-2, select_feature="patch")
    with pytest.raises(BTCChatError, match="mm_vision_select_layer is empty"):
        tiny_tower([])
