"""The JSON files of a checkpoint folder with other values, and with other bytes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from btcchat import BTCChat
from btcchat.checkpoint import adapter
from btcchat.checkpoint.folder import open_checkpoint
from btcchat.errors import BTCChatError
from btcchat.processor import Processor
from tests.fuzz.values import EDITS, ENDS, TIMES, VALUES, mutated

FILES = [
    "config.json", "llm/config.json", "vision_tower/config.json", "vision_tower/preprocessor_config.json",
    "mm_projector/config.json", "llm/tokenizer_config.json", "llm/special_tokens_map.json",
]  # fmt: skip
MORE = ["rope_scaling", "rope_parameters", "vision_config", "num_stored_layers", "token_order", "base_model", "plugins"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint and an adapter of it."""
    from tests.tiny import tiny_model

    root = tmp_path_factory.mktemp("configs")
    tiny_model(root).save_pretrained(root / "plain")
    special = root / "plain/llm/special_tokens_map.json"
    if not special.exists():  # transformers 5 writes none, and reads it
        special.write_text('{"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}}')
    model = BTCChat.from_pretrained(root / "plain", device="cpu")
    adapter.attach(model.llm, target_modules=["q_proj"])
    model.base = adapter.Base.of(root / "plain", open_checkpoint(root / "plain"))
    model.save_pretrained(root / "adapter")
    return root


def opened(folder, load, file: str, data: bytes) -> None:
    good = (folder / file).read_bytes()
    (folder / file).write_bytes(data)
    try:
        load(folder)
    except BTCChatError as error:
        assert "\n" not in str(error)
    finally:
        (folder / file).write_bytes(good)


@pytest.mark.parametrize("file", FILES)
@settings(max_examples=60 * TIMES)
@given(place=st.integers(0, 100), value=VALUES)
def test_another_value_of_a_key_is_read_or_refused_in_one_line(folders, file, place, value):
    config = json.loads((folders / "plain" / file).read_text())
    keys = sorted({*config, *MORE})
    changed = json.dumps(config | {keys[place % len(keys)]: value}).encode()
    opened(folders / "plain", Processor.from_pretrained, file, changed)


@pytest.mark.parametrize("file", [*FILES, "llm/tokenizer.model", "vision_tower/model.safetensors"])
@settings(max_examples=25 * TIMES)
@given(edits=EDITS, end=ENDS)
def test_other_bytes_are_read_or_refused_in_one_line(folders, file, edits, end):
    data = mutated((folders / "plain" / file).read_bytes(), edits, end)
    opened(folders / "plain", Processor.from_pretrained, file, data)


@pytest.mark.parametrize("file", ["llm/config.json", "mm_projector/config.json"])
@settings(max_examples=30 * TIMES)
@given(place=st.integers(0, 100), value=VALUES)
def test_a_model_is_built_or_refused_in_one_line(folders, file, place, value):
    config = json.loads((folders / "plain" / file).read_text())
    if file.startswith("mm"):
        keys = sorted(config["change_encoder"])
        config["change_encoder"][keys[place % len(keys)]] = value
    else:
        config[sorted(config)[place % len(config)]] = value
    load = lambda folder: BTCChat.from_pretrained(folder, device="cpu")  # noqa: E731
    opened(folders / "plain", load, file, json.dumps(config).encode())


@settings(max_examples=40 * TIMES)
@given(place=st.integers(0, 100), value=VALUES)
def test_an_adapter_is_read_or_refused_in_one_line(folders, place, value):
    file = "llm/adapter_config.json"
    config = json.loads((folders / "adapter" / file).read_text())
    config[sorted(config)[place % len(config)]] = value
    load = lambda folder: BTCChat.from_pretrained(folder, device="cpu")  # noqa: E731
    opened(folders / "adapter", load, file, json.dumps(config).encode())
