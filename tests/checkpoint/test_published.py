"""Folders that the published code can open have the keys its loader reads; for others the log says why not."""

import json
import logging

import pytest
from safetensors.torch import load_file

from btcchat import BTCChat
from btcchat.checkpoint import published
from btcchat.checkpoint.save import save
from tests.tiny import tiny_model

PARTS = ("llm", "vision_tower", "mm_projector")


def saved(model, folder):
    model.save_pretrained(folder)
    return {name: json.loads((folder / name / "config.json").read_text()) for name in (".", *PARTS)}


def test_the_keys_that_the_published_loader_reads_are_written(tmp_path):
    """The keys it takes from config.json and the parts' configs, and the weights it expects."""
    configs = saved(tiny_model(tmp_path), tmp_path / "out")
    root, tower, projector, llm = configs["."], *(configs[name] for name in ("vision_tower", "mm_projector", "llm"))
    assert root["published_layout"] is True
    assert (root["model_type"], root["architectures"]) == ("llava_llama", ["LlavaLlamaModel"])
    assert root["vision_tower_cfg"]["architectures"][0] == "SiglipVisionModel"  # selects the tower's class
    assert root["llm_cfg"]["tokenizer_padding_side"] == llm["tokenizer_padding_side"] == "right"
    assert {"mm_vision_select_layer", "mm_vision_select_feature", "vision_resolution"} <= root.keys()
    assert {"num_video_frames", "image_aspect_ratio", "llm_cfg", "mm_projector_cfg"} <= root.keys()
    assert (tower["model_type"], tower["architectures"]) == ("siglip_vision_model", ["SiglipVisionModel"])
    assert tower["patch_size"] and llm["tokenizer_model_max_length"]
    assert projector["model_type"] == "v2l_projector"
    assert "mm_projector" in projector["mm_projector_type"]  # layout B: layers.single and layers.change
    assert projector["mm_projector_type"] == root["mm_projector_cfg"]["mm_projector_type"]
    assert llm["architectures"] == ["LlamaForCausalLM"]
    keys = {part: set(load_file(tmp_path / "out" / part / "model.safetensors")) for part in PARTS}
    assert all(key.startswith(("layers.single.", "layers.change.")) for key in keys["mm_projector"])
    assert all(key.startswith("vision_model.") for key in keys["vision_tower"])
    assert all(key.startswith(("model.", "lm_head.")) for key in keys["llm"])
    again = BTCChat.from_pretrained(tmp_path / "out", device="meta")
    assert again.config.mm_projector == {"mm_projector_type": "mlp_downsample", "token_order": "column"}


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"change_encoder": {"change_encoder_type": "concat"}}, "change encoder concat"),
        ({"mm_projector": {"mm_projector_type": "mlp2x_gelu"}}, "projector mlp2x_gelu"),
        ({"llm": "qwen2"}, "language model qwen2"),
    ],
)
def test_a_part_that_the_published_code_lacks_is_named_once(tmp_path, caplog, options, part):
    published.say.cache_clear()
    model = tiny_model(tmp_path, **options)
    with caplog.at_level(logging.INFO, logger=published.logger.name):
        configs = [saved(model, tmp_path / name) for name in ("a", "b")]
    assert all(config["."]["published_layout"] is False for config in configs)
    assert "architectures" not in configs[0]["vision_tower"]
    messages = [record.message for record in caplog.records if record.name == published.logger.name]
    assert messages == [f"the published code cannot open the saved model: it does not support {part}"]


def test_the_published_code_cannot_open_quantised_weights_adapters_or_plugins(tmp_path):
    config = tiny_model(tmp_path).config
    assert published.obstacle(config, adapter=False) is None
    assert published.obstacle(config, adapter=True) == "an adapter"
    config.quantization = {"kind": "int8", "parts": ["llm"]}
    assert published.obstacle(config, adapter=False) == "int8 weights"
    config.quantization, config.plugins = None, [{"module": "mine", "version": None, "parts": {}}]
    assert published.obstacle(config, adapter=False) == "the plugin mine"


def test_a_model_saved_again_has_the_same_config(tmp_path):
    first = saved(tiny_model(tmp_path), tmp_path / "a")
    save(BTCChat.from_pretrained(tmp_path / "a", device="cpu"), tmp_path / "b")
    assert json.loads((tmp_path / "b/config.json").read_text()) == first["."]
