"""Broken or malicious checkpoint folders: an error of one line, before memory is allocated for what they claim."""

import json
import os
import resource
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from btcchat import BTCChat, BTCChatError
from btcchat.checkpoint import adapter
from btcchat.checkpoint.folder import open_checkpoint
from btcchat.processor import Processor
from tests.tiny import qwen2_tokenizer, tiny_model

LLM, TOWER, PROJECTOR = "llm/config.json", "vision_tower/config.json", "mm_projector/config.json"
PIXELS = "vision_tower/preprocessor_config.json"
# (file, key, value, words of the error)
CONFIGS = [
    (LLM, "hidden_act", "nothing", "llm/config.json: KeyError: 'nothing'"),
    (LLM, "hidden_size", "32", "hidden_size is '32', expected a whole number"),
    (LLM, "num_attention_heads", 0, "num_attention_heads is 0, expected at least 1"),
    (LLM, "num_attention_heads", 5, r"hidden.size \(?32\)? is not a multiple of .*heads \(?5"),
    (LLM, "num_attention_heads", None, "num_attention_heads is None, expected a whole number"),
    (LLM, "num_key_value_heads", 1, "num_key_value_heads is 1, but the weights in .* have 2"),
    (LLM, "rope_scaling", [1], r"rope_scaling is \[1\], expected a JSON object"),
    (LLM, "rope_theta", 0, "rope_theta is 0, expected more than 0"),
    (LLM, "rms_norm_eps", "x", "rms_norm_eps is 'x', expected a number"),
    (LLM, "num_labels", "x", "llm/config.json: .*Error: .*str"),
    (LLM, "num_hidden_layers", 3_000_000, "num_hidden_layers is 3000000, expected at most 1000"),
    (LLM, "num_hidden_layers", 900, r"num_hidden_layers is 900, but the weights in .* have 2 \(model.layers.0 to 1\)"),
    (LLM, "vocab_size", 10**13, "vocab_size is 10000000000000, expected at most 100000000"),
    (LLM, "vocab_size", 10**8, r"vocab_size is 100000000, .* have 400 \(model.embed_tokens.weight is 400 x 32\)"),
    (LLM, "hidden_size", 10**7, r"hidden_size is 10000000, .* have 32 \(model.embed_tokens.weight is 400 x 32\)"),
    (LLM, "intermediate_size", 10**7, r"intermediate_size is 10000000, .* have 48 \(.*gate_proj.weight is 48 x 32\)"),
    (LLM, "max_position_embeddings", 2 * 10**8, "max_position_embeddings is 200000000, expected at most 16777216"),
    ("config.json", "vision_resolution", 10**6, "vision_resolution is 1000000, expected at most 8192 or -1"),
    ("config.json", "num_video_frames", 10**9, "num_video_frames is 1000000000, expected at most 4096"),
    ("config.json", "conv_version", [1], r"conv_version is \[1\], expected a string"),
    ("config.json", "pair_prompt", 5, "pair_prompt is 5, expected a string"),
    ("config.json", "series_change_tokens", "no", "series_change_tokens is 'no', expected true or false"),
    ("config.json", "image_aspect_ratio", {}, "image_aspect_ratio is {}, expected a string"),
    (TOWER, "num_hidden_layers", 900, "num_hidden_layers is 900, but the weights in .* have 2"),
    (TOWER, "num_stored_layers", 900, "num_stored_layers is 900, but the weights in .* have 2"),
    (TOWER, "image_size", 8000, "image_size is 8000, but the weights in .* have 16 patches"),
    (TOWER, "layer_norm_eps", "x", "layer_norm_eps is 'x', expected a number"),
    (TOWER, "num_attention_heads", 10**12, "num_attention_heads is 1000000000000, expected at most"),
    (PROJECTOR, "mm_projector_type", 5, "mm_projector_type is 5, expected a string"),
    (PROJECTOR, "mm_projector_type", "mlp99999999x_gelu", "unknown projector 'mlp99999999x_gelu'"),
    (PROJECTOR, "token_order", [], "token_order"),
    (PROJECTOR, "change_encoder", 5, "change_encoder is 5, expected a JSON object"),
    (PROJECTOR, "change_encoder", {"change_encoder_type": "attentive", "cc_head": "x"}, "cc_head is 'x', expected a"),
    (PROJECTOR, "change_encoder", {"change_encoder_type": "attentive", "cc_n_layers": 10**6}, "cc_n_layers is 1000000"),
    (PROJECTOR, "change_encoder", {"change_encoder_type": "attentive", "cc_n_layers": 500}, "is missing"),
    (PROJECTOR, "change_encoder", {"change_encoder_type": "attentive", "cc_dropout": 2}, "cc_dropout is 2, expected"),
    (PIXELS, "size", {"height": 10**6, "width": 10**6}, "size is 1000000, expected at most 8192"),
    (PIXELS, "image_mean", [0, 0], "image_mean"),
    (PIXELS, "image_std", [0, 0, 0], r"image_std\[0\] is 0, expected more than 0"),
    (PIXELS, "resample", 99, "resample is 99, expected at most 5"),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    tiny_model(folder).save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture
def folder(saved, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(saved, tmp_path / "model")


def refused(load, words: str) -> None:
    """``load`` fails with one line and allocates less than a gigabyte."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BTCChatError, match=words) as error:
        load()
    assert "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 2**20  # KiB


def write(file, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(("file", "key", "value", "words"), CONFIGS)
def test_a_wrong_value_or_size_is_named(folder, file, key, value, words):
    write(folder / file, **{key: value})
    refused(lambda: BTCChat.from_pretrained(folder, device="cpu"), words)


def test_the_generation_settings_of_a_folder_are_not_read(saved, folder):
    text = '{"max_length": "x", "eos_token_id": [[5]], "do_sample": "yes", "temperature": 1e999}'
    (folder / "llm/generation_config.json").write_text(text)
    one, other = (BTCChat.from_pretrained(path, device="cpu") for path in (saved, folder))
    assert one.ask("What?", max_new_tokens=4) == other.ask("What?", max_new_tokens=4)


def test_sizes_are_also_compared_before_a_processor_is_built(folder):
    write(folder / LLM, hidden_size=10**7)
    refused(lambda: Processor.from_pretrained(folder), "hidden_size is 10000000, but the weights")


def test_positions_are_bounded_by_the_memory_of_their_table(folder):
    write(folder / LLM, max_position_embeddings=2**24, num_attention_heads=1, num_key_value_heads=1, head_dim=None)
    refused(lambda: BTCChat.from_pretrained(folder), "_embeddings is 16,777,216, expected at most 8,388,608")


def test_all_layers_share_one_table_of_positions(saved):
    llm = BTCChat.from_pretrained(saved, device="cpu").llm
    tables = {id(part): part for name, part in llm.named_modules() if name.endswith("rotary_emb")}
    assert len(tables) == 1  # transformers 4.36 makes one per layer
    for table in tables.values():
        assert getattr(table, "cos_cached", torch.empty(512, 16)).shape == (512, 16)


# -- tokenizers ------------------------------------------------------------------------------------------------------

BROKEN = {"empty": lambda good: b"", "text": lambda good: b"not a model", "cut": lambda good: good[: len(good) // 2]}
BROKEN |= {"zeros": lambda good: b"\0" * 5000, "longer": lambda good: good + b"\xff\xff\xff"}
JSON = {
    "empty": "", "list": "[]", "null": "null", "no model": "{}", "deep": "[" * 200_000, "number": '{"model": 5}',
    "merges": '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": 5}}',
    "huge id": '{"model": {"type": "BPE", "vocab": {"a": 99999999999999}, "merges": []}}',
}  # fmt: skip


@pytest.mark.parametrize("way", BROKEN)
def test_a_broken_sentencepiece_model_is_an_error_of_one_line(folder, way):
    file = folder / "llm/tokenizer.model"
    file.write_bytes(BROKEN[way](file.read_bytes()))
    refused(lambda: Processor.from_pretrained(folder), "tokenizer.model is not a SentencePiece model")


@pytest.mark.parametrize("name", [None, "Qwen2Tokenizer"])
@pytest.mark.parametrize("text", JSON)
def test_a_broken_tokenizer_json_is_an_error_of_one_line(folder, text, name):
    (folder / "llm/tokenizer.model").unlink()
    (folder / "llm/tokenizer.json").write_text(JSON[text])
    write(folder / "llm/tokenizer_config.json", tokenizer_class=name)
    refused(lambda: Processor.from_pretrained(folder), "tokenizer")


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"])
def test_a_tokenizer_file_that_is_a_fifo_is_an_error_of_one_line(folder, name):
    (folder / "llm" / name).unlink(missing_ok=True)  # transformers 5 writes no special_tokens_map.json
    os.mkfifo(folder / "llm" / name)
    refused(lambda: Processor.from_pretrained(folder), "not a regular file")


def test_a_tokenizer_larger_than_the_embedding_is_an_error_of_one_line(folder):
    file = folder / "llm/model.safetensors"
    state = load_file(file)
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        state[key] = state[key][:200].clone()
    save_file(state, file, metadata={"format": "pt"})
    write(folder / LLM, vocab_size=200)
    words = "the tokenizer has 400 tokens, but the model has 200 embeddings"
    refused(lambda: BTCChat.from_pretrained(folder), words)


def test_the_tokenizer_of_qwen2_is_still_read(tmp_path):
    tiny_model(tmp_path, llm="qwen2").save_pretrained(tmp_path / "model")
    assert len(Processor.from_pretrained(tmp_path / "model").tokenizer) == len(qwen2_tokenizer())


# -- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["llm", "vision_tower", "mm_projector"])
def test_integer_weights_are_refused(folder, part):
    file = folder / part / "model.safetensors"
    save_file({key: value.to(torch.int8) for key, value in load_file(file).items()}, file, metadata={"format": "pt"})
    refused(lambda: BTCChat.from_pretrained(folder), "is of type I8, and quantised weights cannot be read")


@pytest.mark.parametrize("kind", ["fifo", "folder", "empty", "/dev/zero", "length"])
def test_a_file_without_weights_is_an_error_of_one_line(folder, kind):
    file = folder / "llm/model.safetensors"
    file.unlink()
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "/dev/zero":
        file.symlink_to(kind)
    else:
        file.write_bytes(b"" if kind == "empty" else (2**62).to_bytes(8, "little") + b"{}")
    refused(lambda: BTCChat.from_pretrained(folder), "model.safetensors cannot be read as safetensors")


@pytest.mark.parametrize(
    "weight_map", [[], {"a": 5}, {"a": "x" * 5000}, {"a": "x\0y"}, {"a": "\ud800"}, {"a": "fifo"}, {"a": "."}]
)
def test_a_broken_weight_index_is_an_error_of_one_line(folder, weight_map):
    os.mkfifo(folder / "llm/fifo")
    (folder / "llm/model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    refused(lambda: BTCChat.from_pretrained(folder), "download the folder again")


@pytest.mark.parametrize("file", ["config.json", LLM, TOWER, PROJECTOR, PIXELS])
def test_a_config_that_is_a_fifo_or_a_device_is_an_error_of_one_line(folder, file):
    (folder / file).unlink()
    os.mkfifo(folder / file)
    refused(lambda: BTCChat.from_pretrained(folder), "not a regular file")


def test_links_as_in_the_hubs_cache_are_followed(folder, tmp_path):
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        blob = tmp_path / f"blob{len(list(tmp_path.iterdir()))}"
        file.rename(blob)
        file.symlink_to(blob)
    assert BTCChat.from_pretrained(folder).ask("Q", max_new_tokens=1) is not None


# -- adapters --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lora(saved, tmp_path_factory):
    model = BTCChat.from_pretrained(saved, device="cpu")
    adapter.attach(model.llm, target_modules=["q_proj"])
    model.base = adapter.Base.of(saved, open_checkpoint(saved))
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("r", 10**9, "r is 1000000000, expected at most 65536"),
        ("r", 50_000, "has shape .*says r 50000; .*download or save the checkpoint again$"),
        ("r", "8", "r is '8', expected a whole number"),
        ("lora_alpha", None, "lora_alpha is None, expected a number"),
        ("lora_dropout", 5, "lora_dropout is 5, expected at most 1"),
        ("target_modules", [], "target_modules is"),
        ("target_modules", [5], r"target_modules\[0\] is 5, expected a string"),
        ("target_modules", ["nothing"], "unknown target module 'nothing'"),
        ("peft_type", "IA3", "peft_type is IA3, expected LORA"),
    ],
)
def test_a_wrong_adapter_config_is_an_error_of_one_line(lora, tmp_path, key, value, words):
    folder = shutil.copytree(lora, tmp_path / "adapter")
    write(folder / "llm/adapter_config.json", **{key: value})
    refused(lambda: BTCChat.from_pretrained(folder), words)


@pytest.mark.parametrize("base", [5, [], {"path": 5}, {"path": "a"}, {"path": "a", "fingerprint": "b", "parts": "llm"}])
def test_a_base_of_a_wrong_type_is_an_error_of_one_line(lora, tmp_path, base):
    folder = shutil.copytree(lora, tmp_path / "adapter")
    write(folder / "config.json", base_model=base)
    refused(lambda: BTCChat.from_pretrained(folder), "config.json: base_model")


def test_an_adapter_that_is_its_own_base_is_an_error_of_one_line(lora, tmp_path):
    folder = shutil.copytree(lora, tmp_path / "adapter")
    base = json.loads((folder / "config.json").read_text())["base_model"]
    write(folder / "config.json", base_model=base | {"path": str(folder)})
    refused(lambda: BTCChat.from_pretrained(folder), "is an adapter of .*adapter, which is an adapter itself")


def test_integer_adapter_weights_are_refused(lora, tmp_path):
    folder = shutil.copytree(lora, tmp_path / "adapter")
    file = folder / "llm" / adapter.WEIGHTS
    save_file({key: value.to(torch.int8) for key, value in load_file(file).items()}, file)
    refused(lambda: BTCChat.from_pretrained(folder), "is of type I8, expected one of F16")
