"""Adapter folders: they load like any model, know their base, can be switched off and merged."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import tiny_model

from btcchat import BTCChat, BTCChatError, cli, request
from btcchat.checkpoint import adapter
from btcchat.checkpoint.folder import open_folder
from btcchat.commands.caption import EXAMPLE
from btcchat.decoding.options import GenerationOptions

LORA = {"r": 4, "lora_alpha": 12, "lora_dropout": 0.1}  # alpha differs from peft's default
SQUARES = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]


def logits(model) -> torch.Tensor:
    records = [request("What changed?", "pair", SQUARES), request("What?")]
    batch = model.processor.collate([model.processor(one, train=False) for one in records])
    with torch.no_grad():
        return model(**{**batch, "labels": None}).logits


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A base, and an adapter of it with changed LoRA weights, projector and change encoder, as if trained."""
    root = tmp_path_factory.mktemp("adapter")
    tiny_model(root).save_pretrained(root / "base")
    model = BTCChat.from_pretrained(root / "base", device="cpu")
    adapter.attach(model.llm, target_modules=adapter.linear_names(model.llm), **LORA)
    model.base = adapter.Base.of(root / "base", open_folder(root / "base"))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or name.startswith(("mm_projector", "change_encoder")):
                parameter += torch.randn_like(parameter) * 0.1
    model.save_pretrained(root / "adapter")
    return root, logits(model.eval())


@pytest.fixture
def copies(folders, tmp_path):
    """Folders that a test may damage; the adapter's base is the copy."""
    for name in ("base", "adapter"):
        shutil.copytree(folders[0] / name, tmp_path / name)
    file = tmp_path / "adapter" / "config.json"
    config = json.loads(file.read_text())
    config["base_model"]["path"] = str(tmp_path / "base")
    file.write_text(json.dumps(config))
    return tmp_path


def test_an_adapter_loads_as_it_was_saved(folders, tmp_path):
    root, expected = folders
    model = BTCChat.from_pretrained(root / "adapter", device="cpu")
    assert torch.equal(logits(model), expected)
    model.save_pretrained(tmp_path / "again")
    assert torch.equal(logits(BTCChat.from_pretrained(tmp_path / "again", device="cpu")), expected)


def test_an_adapter_folder_holds_the_trained_weights_and_names_its_base(folders):
    root, _ = folders
    assert {file.relative_to(root / "adapter").as_posix() for file in (root / "adapter").rglob("*.safetensors")} == {
        "llm/adapter_model.safetensors",
        "mm_projector/model.safetensors",
    }
    assert json.loads((root / "adapter" / "config.json").read_text())["base_model"] == {
        "path": str(root / "base"),
        "fingerprint": adapter.fingerprint(open_folder(root / "base")),
        "parts": ["llm", "vision_tower"],
    }
    assert set(adapter.read_base(root / "adapter").parts) == {"llm", "vision_tower"}
    assert adapter.read_base(root / "base") is None


def test_peft_can_read_the_adapter(folders):
    from peft import PeftModel

    root, _ = folders
    ours = BTCChat.from_pretrained(root / "adapter", device="cpu")
    theirs = PeftModel.from_pretrained(
        BTCChat.from_pretrained(root / "base", device="cpu").llm, root / "adapter" / "llm"
    )
    ids = torch.tensor([[1, 5, 9, 30]])
    with torch.no_grad():
        assert torch.equal(ours.llm(ids).logits, theirs.eval()(ids).logits)


def test_with_the_adapter_off_the_language_model_equals_the_bases(folders):
    root, expected = folders
    model = BTCChat.from_pretrained(root / "adapter", device="cpu")
    base = BTCChat.from_pretrained(root / "base", device="cpu")
    model.llm.get_parameter("model.layers.0.self_attn.q_proj.lora_A.default.weight").requires_grad_(False)
    trained = {name: p.requires_grad for name, p in model.named_parameters()}
    ids = torch.tensor([[1, 5, 9, 30]])
    with torch.no_grad():
        with model.adapter_off():
            assert torch.equal(model.llm(ids).logits, base.llm(ids).logits)
        assert not torch.equal(model.llm(ids).logits, base.llm(ids).logits)
    assert torch.equal(logits(model), expected)
    assert {name: p.requires_grad for name, p in model.named_parameters()} == trained
    with pytest.raises(BTCChatError, match="no adapter to switch off"), base.adapter_off():
        pass


def test_a_merged_adapter_is_a_plain_checkpoint_with_the_same_answers(folders, tmp_path, capsys):
    root, expected = folders
    shutil.copytree(root / "adapter", tmp_path / "best")
    (tmp_path / "best/selection.json").write_text('{"test splits": ["a:test"]}')
    assert cli.main(["export", "--merge", str(tmp_path / "best"), str(tmp_path / "merged")]) == 0
    assert "in float32" in capsys.readouterr().out
    assert "a:test" in (tmp_path / "merged/selection.json").read_text()
    merged = BTCChat.from_pretrained(tmp_path / "merged", device="cpu")
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert merged.base is None and "base_model" not in json.loads((tmp_path / "merged/config.json").read_text())
    torch.testing.assert_close(logits(merged), expected, atol=1e-4, rtol=0)
    records = [request("What changed?", "pair", SQUARES), request("What is it?", "image", SQUARES[0])]
    with_adapter = BTCChat.from_pretrained(root / "adapter", device="cpu")
    options = GenerationOptions(max_new_tokens=12)
    assert merged.answer(records, options) == with_adapter.answer(records, options)


def test_a_merged_adapter_has_the_dtype_of_a_base_saved_by_newer_transformers(copies, capsys):
    file = copies / "base/llm/config.json"
    config = json.loads(file.read_text())
    config["dtype"] = config.pop("torch_dtype").replace("float32", "bfloat16")
    file.write_text(json.dumps(config))
    assert cli.main(["export", "--merge", str(copies / "adapter"), str(copies / "merged")]) == 0
    assert "in bfloat16" in capsys.readouterr().out


def test_a_trained_tower_is_saved_with_the_adapter(copies):
    model = BTCChat.from_pretrained(copies / "adapter", device="cpu")
    model.base.parts = ["llm"]
    with torch.no_grad():
        model.vision_tower.vision_model["embeddings"]["position_embedding"].weight += 1
    expected = logits(model)
    model.save_pretrained(copies / "adapter2")
    assert torch.equal(logits(BTCChat.from_pretrained(copies / "adapter2", device="cpu")), expected)


# -- bad input -------------------------------------------------------------------------------------------------------


def test_a_missing_base_is_an_error_that_names_it(copies, capsys):
    (copies / "base").rename(copies / "moved")
    with pytest.raises(BTCChatError, match=r"adapter is an adapter of .*base, which was not found; .* with --base"):
        BTCChat.from_pretrained(copies / "adapter")
    model = BTCChat.from_pretrained(copies / "adapter", base=copies / "moved", device="cpu")
    assert adapter.lora_layers(model.llm)
    words = ["caption", *map(str, EXAMPLE.iterdir()), "--model", str(copies / "adapter"), "--max-new-tokens", "2"]
    assert cli.main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.main([*words, "--base", str(copies / "moved")]) == 0


@pytest.mark.parametrize("part", ["llm", "vision_tower"])
def test_a_base_with_other_weights_is_refused(copies, part):
    file = copies / "base" / part / "model.safetensors"
    state = load_file(file)
    key = sorted(state)[0]
    save_file(state | {key: state[key] + 1}, file, metadata={"format": "pt"})
    with pytest.raises(BTCChatError, match=r"adapter of .*, but .*base has different weights; name the folder"):
        BTCChat.from_pretrained(copies / "adapter")


def test_a_base_in_different_shards_is_accepted(copies):
    before = adapter.fingerprint(open_folder(copies / "base"))
    model = BTCChat.from_pretrained(copies / "base", device="cpu")
    model.save_pretrained(copies / "sharded", max_shard_size="50KB")
    assert len(list((copies / "sharded" / "llm").glob("*.safetensors"))) > 1
    assert adapter.fingerprint(open_folder(copies / "sharded")) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.popitem(), "lora_[AB].weight' is missing"),
        (lambda state: state.update(other=torch.zeros(1)), "weight 'other' is unknown"),
        (
            lambda state: state.update(dict.fromkeys(list(state)[:1], torch.zeros(1))),
            r"has shape \(1,\), but the ",
        ),
    ],
)
def test_adapter_weights_that_do_not_fit_are_errors_that_name_them(copies, change, message, monkeypatch):
    monkeypatch.chdir(copies)  # of a long path the middle of a message would be left out
    file = copies / "adapter" / "llm" / adapter.WEIGHTS
    state = load_file(file)
    change(state)
    save_file(state, file)
    with pytest.raises(BTCChatError, match=message):
        BTCChat.from_pretrained("adapter")


def test_other_faults_of_an_adapter_are_errors(copies, capsys):
    with pytest.raises(BTCChatError, match="base is not an adapter but has its own weights; leave out base"):
        BTCChat.from_pretrained(copies / "base", base=copies / "base")
    merge = ["--merge", str(copies / "base")]
    for words in ([*merge, "new"], [*merge, str(copies)], [*merge, "new", "--vision-tower", "x"]):
        assert cli.main(["export", *words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "is already a plain checkpoint, not an adapter" in said[0]
    assert "already exists; give a new folder" in said[1]
    assert "--vision-tower cannot be used with this export" in said[2]
    file = copies / "adapter" / "llm" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"peft_type": "IA3"}))
    with pytest.raises(BTCChatError, match="peft_type is IA3, expected LORA"):
        BTCChat.from_pretrained(copies / "adapter")


def test_a_layer_that_does_not_exist_cannot_be_adapted(copies):
    model = BTCChat.from_pretrained(copies / "base", device="cpu")
    with pytest.raises(BTCChatError, match=r"unknown target module 'qproj' \(did you mean 'q_proj'\?\)"):
        adapter.attach(model.llm, target_modules=["qproj"], **LORA)
