"""Saving a model: over its own files only, complete or not at all, and never with weights that are not finite."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from btcchat import BTCChat
from btcchat.checkpoint import save as saving
from btcchat.checkpoint.weights import convert_pickles, weight_files
from btcchat.errors import BTCChatError
from btcchat.files import read_json, write_json
from btcchat.language_model.tokenizer import load_tokenizer
from btcchat.outputs.lock import Lock
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("tiny"))


def files(folder) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["llm/notes.txt", "vision_tower/a/b", "mm_projector/model.bin", "config.json"])
def test_files_that_btcchat_did_not_write_are_neither_deleted_nor_replaced(model, tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text('{"model_type": "llava_llama"}')
    before = files(tmp_path)
    with pytest.raises(BTCChatError, match="already exists, and btcchat did not save it; give another folder"):
        model.save_pretrained(tmp_path)
    assert files(tmp_path) == before


def test_a_saved_model_is_replaced_and_other_files_are_kept(model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    model.save_pretrained(tmp_path)
    (tmp_path / "llm" / "old").touch()
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "llm" / "old").exists() and (tmp_path / "notes.txt").exists()
    assert sorted(os.listdir(tmp_path)) == ["config.json", "llm", "mm_projector", "notes.txt", "vision_tower"]


def test_an_empty_path_is_not_the_current_folder(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BTCChatError, match="save_pretrained needs a folder, got ''"):
        model.save_pretrained("")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("renames", [0, 1, 2, 3])  # of parts, before the process is killed
def test_a_folder_whose_parts_are_being_replaced_is_not_complete_and_can_be_saved_again(
    model, tmp_path, monkeypatch, renames
):
    model.save_pretrained(tmp_path / "out")
    rename, done = Path.rename, []

    class Killed(BaseException):
        pass

    def killed(path, target):
        if len(done) == renames:
            raise Killed
        done.append(path)
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(Killed):
            model.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").exists()
    with pytest.raises(BTCChatError):
        BTCChat.from_pretrained(tmp_path / "out")
    model.save_pretrained(tmp_path / "out")
    assert set(os.listdir(tmp_path / "out")) == {"config.json", "llm", "mm_projector", "vision_tower"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_not_saved(model, tmp_path, value):
    state = {key: weight.clone() for key, weight in model.state_dict().items()}
    state["llm.lm_head.weight"][3, 1] = value
    with pytest.raises(BTCChatError, match=r"weight 'llm.lm_head.weight' is not finite \(NaN or infinity\), so .*out"):
        model.save_pretrained(tmp_path / "out", state_dict=state)
    assert not list(tmp_path.iterdir())


def test_a_weight_too_large_for_half_precision_is_not_saved(model, tmp_path):
    state = model.state_dict() | {"llm.lm_head.weight": model.llm.lm_head.weight.detach() * 0 + 1e6}
    model.save_pretrained(tmp_path / "a", state_dict=state, dtype=torch.bfloat16)
    with pytest.raises(BTCChatError, match="is not finite"):
        model.save_pretrained(tmp_path / "b", state_dict=state, dtype=torch.float16)


def test_nan_weights_give_an_error_and_not_an_empty_answer(model, tmp_path, capsys):
    """Also for weights in a folder that another program wrote."""
    from safetensors.torch import load_file, save_file

    from btcchat import cli

    model.save_pretrained(tmp_path)
    file = tmp_path / "llm" / "model.safetensors"
    state = load_file(file)
    state["model.norm.weight"][:] = float("nan")
    save_file(state, file, metadata={"format": "pt"})
    for words in (["caption", "--example"], ["ask", "What changed?", "--pair", *2 * [str(EXAMPLE)]]):
        assert cli.main([*words, "--model", str(tmp_path), "--device", "cpu"]) == 2
        printed = capsys.readouterr()
        assert "values that are not finite" in printed.err and not printed.out
    loaded = BTCChat.from_pretrained(tmp_path, device="cpu")
    for options in ({"num_beams": 2}, {"temperature": 1.0, "seed": 1}, {"repetition_penalty": 1.2}):
        with pytest.raises(BTCChatError, match="values that are not finite"):
            loaded.ask("What?", image=EXAMPLE, **options)
    with pytest.raises(BTCChatError, match="values that are not finite"):
        list(loaded.stream("What?", image=EXAMPLE))


EXAMPLE = Path(saving.__file__).parents[1] / "assets" / "example" / "before.png"


def test_two_processes_cannot_save_to_one_folder_at_once(model, tmp_path):
    with Lock(tmp_path / ".saving.lock", "it"), pytest.raises(BTCChatError, match="is being written by process"):
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["/etc/hostname", "../other/model.safetensors"])
def test_a_weight_index_cannot_name_files_outside_its_folder(model, tmp_path, name):
    model.save_pretrained(tmp_path / "out")
    shutil.copytree(tmp_path / "out" / "llm", tmp_path / "out" / "other")
    (tmp_path / "out/llm/model.safetensors.index.json").write_text(f'{{"weight_map": {{"a": "{name}"}}}}')
    with pytest.raises(BTCChatError, match="names the file '.*', which is not in its folder; download"):
        weight_files(tmp_path / "out" / "llm")


def test_a_shard_that_is_a_link_is_read_as_in_the_hubs_cache(model, tmp_path):
    model.save_pretrained(tmp_path / "out")
    llm = tmp_path / "out" / "llm"
    (llm / "model.safetensors").rename(tmp_path / "blob")
    (llm / "shard.safetensors").symlink_to(tmp_path / "blob")
    (llm / "model.safetensors.index.json").write_text('{"weight_map": {"a": "shard.safetensors"}}')
    assert weight_files(llm) == [llm / "shard.safetensors"]


def test_converting_a_pickle_replaces_no_file(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").write_text("mine")
    with pytest.raises(BTCChatError, match=r"model\.safetensors exists already"):
        convert_pickles(tmp_path)
    assert (tmp_path / "model.safetensors").read_text() == "mine"


def test_a_tokenizers_settings_cannot_name_files_outside_its_folder(model, tmp_path):
    model.save_pretrained(tmp_path / "out")
    file = tmp_path / "out" / "llm" / "tokenizer_config.json"
    (tmp_path / "tokenizer.model").write_text("another file")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vocab_file": str(tmp_path / "tokenizer.model")}))
    assert len(load_tokenizer(tmp_path / "out" / "llm")) == len(model.tokenizer)


def test_a_models_ground_sampling_distance_and_threshold_are_saved(tmp_path):
    threshold = {"value": 0.25, "chosen_on": "12 pairs"}
    model = tiny_model(tmp_path, training_gsd=0.5, change_threshold=threshold)
    model.save_pretrained(tmp_path / "saved")
    config = BTCChat.from_pretrained(tmp_path / "saved").config
    assert (config.training_gsd, config.change_threshold) == (0.5, threshold)
    tiny_model(tmp_path).save_pretrained(tmp_path / "without")
    assert not {"training_gsd", "change_threshold"} & read_json(tmp_path / "without" / "config.json").keys()
    content = read_json(tmp_path / "saved" / "config.json")
    write_json(tmp_path / "saved" / "config.json", content | {"change_threshold": {"value": 2, "chosen_on": "x"}})
    with pytest.raises(BTCChatError, match="change_threshold"):
        BTCChat.from_pretrained(tmp_path / "saved")
