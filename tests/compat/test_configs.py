"""A checkpoint has keys that every version of transformers can read, whichever version wrote it."""

import json

import pytest
from transformers import PretrainedConfig

from btcchat.api import BTCChat
from btcchat.checkpoint.config import BTCChatConfig
from btcchat.compat.configs import BASE_FIELDS, published_rope, published_tokenizer
from btcchat.files import write_json
from tests.tiny import rope_of, tiny_model


@pytest.mark.parametrize(
    ("written", "published"),
    [
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, {"rope_theta": 1e6, "rope_scaling": None}),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}},
            {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}},
        ),
        (
            {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5}},
            {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        ),
        (
            {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 2.0}},
            {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}},
        ),
        ({"rope_theta": 5e5, "rope_scaling": None}, {"rope_theta": 5e5, "rope_scaling": None}),
    ],
)
def test_rotary_embeddings_are_saved_with_the_published_keys(written, published):
    assert published_rope({"hidden_size": 8, **written}) == {"hidden_size": 8, **published}


def test_a_tokenizer_is_saved_with_the_published_keys():
    written = {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<a>"], "backend": "tokenizers"}
    found = {"tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": ["<a>"]}
    assert published_tokenizer(written) == found
    assert published_tokenizer({"tokenizer_class": "Qwen2TokenizerFast"}) == {"tokenizer_class": "Qwen2Tokenizer"}
    assert published_tokenizer({"tokenizer_class": "LlamaTokenizer"}) == {"tokenizer_class": "LlamaTokenizer"}


@pytest.mark.parametrize("llm", ["llama", "qwen2"])
def test_a_saved_folder_has_no_keys_of_transformers_5(llm, tmp_path):
    model = tiny_model(tmp_path, llm=llm)
    model.config.llm["rope_theta"] = 77777.0
    model.llm.config.rope_parameters = {"rope_theta": 77777.0, "rope_type": "default"}
    model.llm.config.rope_theta = 77777.0
    model.save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved/llm/config.json").read_text())
    assert not {"rope_parameters", "dtype"} & config.keys()
    assert (config["rope_theta"], config["torch_dtype"]) == (77777.0, "float32")
    tokenizer = json.loads((tmp_path / "saved/llm/tokenizer_config.json").read_text())
    assert tokenizer["tokenizer_class"] == {"llama": "LlamaTokenizer", "qwen2": "Qwen2Tokenizer"}[llm]
    assert not {"extra_special_tokens", "backend", "is_local"} & tokenizer.keys()
    if llm == "qwen2":
        merges = json.loads((tmp_path / "saved/llm/tokenizer.json").read_text())["model"]["merges"]
        assert merges and all(isinstance(merge, str) for merge in merges)
    assert rope_of(BTCChat.from_pretrained(tmp_path / "saved", device="cpu").llm)[0] == 77777.0


def test_a_tokenizer_without_a_bos_token_still_has_none_after_saving(tmp_path):
    model = tiny_model(tmp_path)
    model.tokenizer.add_bos_token = False
    model.save_pretrained(tmp_path / "saved")
    again = BTCChat.from_pretrained(tmp_path / "saved", device="cpu").tokenizer
    assert again("two").input_ids == again("two", add_special_tokens=False).input_ids


def test_defaults_repeated_in_published_part_configs_are_not_options_of_the_projector(tmp_path):
    model = tiny_model(tmp_path)
    model.save_pretrained(tmp_path / "saved")
    file = tmp_path / "saved/mm_projector/config.json"
    published = dict.fromkeys((*BASE_FIELDS, *PretrainedConfig().to_dict())) | {"torch_dtype": "bfloat16"}
    write_json(file, published | json.loads(file.read_text()))
    options = {"mm_projector_type": "mlp_downsample", "token_order": "column"}
    assert BTCChatConfig.load(tmp_path / "saved").mm_projector == options
    BTCChat.from_pretrained(tmp_path / "saved", device="cpu")
