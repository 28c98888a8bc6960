"""Qwen2 on the LLaMA class; tests/test_golden.py checks its logits."""

import json
import os
from pathlib import Path

import pytest
import torch

from btcchat.checkpoint.weights import load_strict, weight_keys
from btcchat.compat.configs import published_rope
from btcchat.errors import BTCChatError
from btcchat.language_model import build_language_model
from btcchat.language_model.qwen2 import Qwen2Config
from btcchat.language_model.tokenizer import load_tokenizer
from tests.tiny import qwen2_tokenizer, rope_of

CONFIG = {
    "model_type": "qwen2",
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rope_theta": 1e6,
}
TEXT = "It's 2 houses,  they're\n\nna\u00efve \u2603 <|im_start|>x<|im_end|>\n"


def build(**settings):
    torch.manual_seed(0)
    return build_language_model(CONFIG | settings).eval()


def test_only_queries_keys_and_values_have_biases():
    names = {name.split("layers.0.")[1] for name, _ in build().named_parameters() if "layers.0." in name}
    assert {name for name in names if name.endswith("bias")} == {f"self_attn.{p}_proj.bias" for p in "qkv"}


def test_the_biases_change_the_logits():
    model, ids = build(), torch.arange(5)[None]
    before = model(ids).logits
    with torch.no_grad():
        model.model.layers[0].self_attn.v_proj.bias += 0.5
    assert not torch.allclose(model(ids).logits, before, atol=1e-3)


@pytest.mark.parametrize("tied", [False, True])
def test_a_saved_model_loads_bit_equal_and_names_its_family(tied, tmp_path):
    model = build(tie_word_embeddings=tied)
    model.save_pretrained(tmp_path, safe_serialization=True)
    assert ("lm_head.weight" in weight_keys(tmp_path)) is not tied
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("qwen2", ["Qwen2ForCausalLM"])
    again = build_language_model(config)
    load_strict(again, tmp_path, tied={"lm_head.weight": "model.embed_tokens.weight"} if tied else None)
    ids = torch.arange(7)[None]
    assert torch.equal(model(ids).logits, again.eval()(ids).logits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_sliding_window": True}, "use_sliding_window is true; only full attention is supported"),
        ({"rope_scaling": {"type": "spiral", "factor": 4.0}}, "llm/config.json: .*rope_scaling"),
        (
            {"rope_scaling": "linear"},
            "^llm/config.json: rope_scaling is linear, expected rope_theta and a rope_type of",
        ),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "rope_parameters is .*, expected rope_theta and a"),
        ({"rope_parameters": {"rope_type": "spiral", "factor": 4.0}}, "rope_parameters is .*'spiral'.*; use another"),
    ],
)
def test_unsupported_settings_are_errors(settings, message):
    with pytest.raises(BTCChatError, match=message):
        build(**settings)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize(
    ("rope", "scaling"),
    [
        ({"rope_theta": 1e6, "rope_type": "default"}, None),
        ({"rope_theta": 1e6, "rope_type": "linear", "factor": 2.0}, {"type": "linear", "factor": 2.0}),
    ],
)
def test_newer_transformers_rope_parameters_are_read(family, rope, scaling, tmp_path):
    config = {name: value for name, value in CONFIG.items() if name != "rope_theta"} | {"model_type": family}
    model = build_language_model(config | {"rope_parameters": rope})
    older = build_language_model(config | {"rope_theta": 1e6, "rope_scaling": scaling})
    assert rope_of(model) == (1e6, scaling)
    older.load_state_dict(model.state_dict())
    ids = torch.arange(7)[None]
    assert torch.equal(model.eval()(ids).logits, older.eval()(ids).logits)


def test_missing_settings_have_the_published_defaults():
    """The reference is transformers' own Qwen2Config."""
    config = Qwen2Config()
    assert (config.bos_token_id, config.eos_token_id, config.tie_word_embeddings) == (None, None, False)
    assert (config.vocab_size, config.max_position_embeddings) == (151936, 32768)
    assert (config.hidden_size, config.intermediate_size) == (4096, 22016)
    assert (config.num_attention_heads, config.num_key_value_heads) == (32, 32)
    assert (published_rope(config.to_dict())["rope_theta"], config.rms_norm_eps) == (10000, 1e-6)


@pytest.mark.parametrize("way", ["tokenizer.json", "merges as lists", "vocab.json and merges.txt"])
def test_the_tokenizer_is_read_from_each_kind_of_file(way, tmp_path):
    tokenizer = qwen2_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text())
    assert content["model"]["merges"], "the test needs merges"
    if way == "merges as lists":
        merges = [merge if isinstance(merge, list) else merge.split(" ") for merge in content["model"]["merges"]]
        content["model"]["merges"] = merges
        file.write_text(json.dumps(content))
    elif way != "tokenizer.json":
        tokenizer.save_vocabulary(str(tmp_path))
        os.remove(file)
    again = load_tokenizer(tmp_path)
    assert again(TEXT).input_ids == tokenizer(TEXT).input_ids
    assert again.decode(again(TEXT).input_ids) == TEXT
    assert (again.eos_token, again.pad_token, again.bos_token) == ("<|im_end|>", "<|endoftext|>", None)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("tokenizer.json", "{", "tokenizer.json is not JSON .*; download or save the checkpoint again$"),
        ("tokenizer.json", "[]", "tokenizer.json holds a list, expected an object"),
        ("tokenizer.json", "{}", "tokenizer.json has no 'model'; download or save"),
        ("tokenizer.json", '{"model": {"type": "BPE"}}', "tokenizer.json is not a tokenizer .Exception: "),
        ("tokenizer_config.json", "[1]", "tokenizer_config.json holds a list, expected an object"),
        ("vocab.json", "{", "vocab.json with .*merges.txt is not a tokenizer .Exception: "),
    ],
)
def test_a_broken_tokenizer_is_one_line_that_names_the_file(file, text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # of a long path the middle of a message would be left out
    tokenizer = qwen2_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    if file == "vocab.json":
        tokenizer.save_vocabulary(str(tmp_path))
        os.remove(tmp_path / "tokenizer.json")
    (tmp_path / file).write_text(text)
    with pytest.raises(BTCChatError, match=message) as caught:
        load_tokenizer(Path("."))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_tokenizer_names_the_choices(tmp_path):
    with pytest.raises(BTCChatError, match="expected tokenizer.model, tokenizer.json or vocab.json with merges.txt"):
        load_tokenizer(tmp_path)
