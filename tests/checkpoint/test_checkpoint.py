"""Checkpoint folders: a saved model loads back bit-equal; an error names what does not fit."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_model

from btcchat import BTCChat, BTCChatError
from btcchat.change_encoder import encoder_defaults
from btcchat.checkpoint.load import pick_device
from btcchat.checkpoint.weights import convert_pickles
from btcchat.language_model import build_language_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    tiny_model(folder).save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture
def folder(saved, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(saved, tmp_path / "model")


def edit(file, **changes):
    """Change tensors of a safetensors file; None removes one."""
    state = load_file(file) | changes
    save_file({k: v for k, v in state.items() if v is not None}, file, metadata={"format": "pt"})


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_saved_model_loads_back_bit_equal(saved, tmp_path, dtype):
    model = BTCChat.from_pretrained(saved, device="cpu", dtype=dtype)
    model.save_pretrained(tmp_path / "again")
    again = BTCChat.from_pretrained(tmp_path / "again", device="cpu", dtype=dtype)
    assert equal(model, again) and again.config == model.config
    assert json.loads((tmp_path / "again/llm/config.json").read_text())["torch_dtype"] == dtype


@pytest.mark.parametrize("name", ["torch_dtype", "dtype"])  # newer transformers writes dtype
def test_the_stored_dtype_is_read_under_either_name(folder, name):
    file = folder / "llm/config.json"
    config = json.loads(file.read_text())
    assert config.pop("torch_dtype") == "float32"
    file.write_text(json.dumps(config | {name: "bfloat16"}))
    assert BTCChat.from_pretrained(folder, device="meta").llm.dtype == torch.bfloat16


def test_the_published_folder_loads_saves_and_loads_bit_equal(shared, tmp_path):
    """All of its weights come back unchanged, except those that no code uses."""
    published = shared / "golden/unirs/checkpoint"
    heads = json.loads((shared / "golden/unirs/checkpoint_golden.json").read_text())["eval_args"]["cc_head"]
    model = BTCChat.from_pretrained(published, device="cpu", dtype="bfloat16", cc_head=heads)
    model.save_pretrained(tmp_path / "ours")
    for part in ("llm", "vision_tower", "mm_projector"):
        theirs = load_file(published / part / "model.safetensors")
        ours = load_file(tmp_path / "ours" / part / "model.safetensors")
        assert set(ours) <= set(theirs)
        assert all(".to_v." in key or ".head." in key for key in set(theirs) - set(ours))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    again = BTCChat.from_pretrained(tmp_path / "ours", device="cpu", dtype="bfloat16")  # records its heads
    assert equal(model, again) and again.config.change_encoder["cc_head"] == heads


def test_a_published_folder_without_its_number_of_heads_gets_the_default_and_one_warning(shared, caplog):
    published = shared / "golden/unirs/checkpoint"
    with caplog.at_level("WARNING"):
        model = BTCChat.from_pretrained(published, device="cpu", dtype="float32")
    assert model.config.change_encoder["cc_head"] == 8
    assert [r.message for r in caplog.records if "cc_head" in r.message] and len(caplog.records) == 1


def test_sharded_weights_load_like_a_single_file(saved, folder):
    model = BTCChat.from_pretrained(saved, device="cpu")
    model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list((folder / "llm").glob("*.safetensors"))) > 1
    assert equal(model, BTCChat.from_pretrained(folder, device="cpu"))
    shard = sorted((folder / "llm").glob("*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(BTCChatError, match=f"{shard.name} is missing"):
        BTCChat.from_pretrained(folder)


def test_tied_embeddings_and_grouped_query_attention_load(tmp_path):
    model = tiny_model(tmp_path)
    config = model.config.llm | {"tie_word_embeddings": True, "num_key_value_heads": 1}
    model.llm, model.config.llm = build_language_model(config), config
    model.save_pretrained(tmp_path / "tied")
    assert "lm_head.weight" not in load_file(tmp_path / "tied/llm/model.safetensors")
    again = BTCChat.from_pretrained(tmp_path / "tied", device="cpu")
    assert equal(model, again)
    assert again.llm.lm_head.weight is again.llm.model.embed_tokens.weight


@pytest.mark.parametrize("prefix", ["layers.", "layers.single."])
def test_from_origin_keeps_the_projector_and_starts_a_fresh_change_encoder(tmp_path, prefix):
    origin = tiny_model(tmp_path, change_encoder={"change_encoder_type": "concat"})
    origin.save_pretrained(tmp_path / "origin")
    file = tmp_path / "origin/mm_projector/model.safetensors"
    state = {prefix + k.removeprefix("layers.single."): v for k, v in load_file(file).items()}
    save_file(state, file, metadata={"format": "pt"})  # "layers.": the layout of original VILA-1.5 folders
    model = BTCChat.from_pretrained(
        tmp_path / "origin", from_origin=True, chg_type="Chg2Cap", cc_n_layers=2, cc_head=4, device="cpu"
    )
    assert len(model.change_encoder.selftrans) == 2
    assert equal(model.mm_projector, origin.mm_projector) and equal(model.llm, origin.llm)
    plain = BTCChat.from_pretrained(tmp_path / "origin", device="cpu")
    assert plain.config.change_encoder == {"change_encoder_type": "concat"}


def test_from_origin_refuses_a_folder_that_has_a_change_encoder(saved):
    with pytest.raises(BTCChatError, match="has a change encoder already"):
        BTCChat.from_pretrained(saved, from_origin=True)


def test_options_that_a_checkpoint_does_not_record_are_the_defaults(tmp_path):
    tiny_model(tmp_path, change_encoder={"change_encoder_type": "attentive"}).save_pretrained(tmp_path / "model")
    agreeing = {"cc_n_layers": 0, "cc_head": 8, "chg_type": "Chg2Cap"}
    model = BTCChat.from_pretrained(tmp_path / "model", device="cpu", **agreeing, cc_dropout=0.1)
    assert model.config.change_encoder["cc_dropout"] == 0.1
    with pytest.raises(BTCChatError, match="cc_head is 4, but the checkpoint has 8 .*; leave it out"):
        BTCChat.from_pretrained(tmp_path / "model", device="cpu", cc_head=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cc_head": 4}, "cc_head is 4, but the checkpoint has 8"),
        ({"cc_n_layers": 3}, "cc_n_layers is 3, but the checkpoint has 1"),
        ({"chg_type": "concat"}, "chg_type is concat, but the checkpoint has attentive"),
        ({"cc_args": {"cc_heads": 8}}, "unknown option 'cc_heads'"),
        ({"dtype": "float8"}, "unknown dtype 'float8'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"mm_vision_select_layer": -7}, "mm_vision_select_layer -7"),
    ],
)
def test_an_option_that_conflicts_names_both_values(saved, options, message):
    with pytest.raises(BTCChatError, match=message):
        BTCChat.from_pretrained(saved, **options)


@pytest.fixture
def tf32_settings():
    """Restore torch's flags, which are no attributes that monkeypatch can restore."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    yield products, convolutions
    products.allow_tf32, convolutions.allow_tf32 = before


@pytest.mark.parametrize("allowed", [False, True])
def test_a_gpu_convolves_in_tf32_only_if_it_multiplies_in_it(tf32_settings, allowed):
    products, convolutions = tf32_settings
    products.allow_tf32, convolutions.allow_tf32 = allowed, not allowed
    BTCChat.from_pretrained()
    assert convolutions.allow_tf32 == allowed


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_on_a_machine_without_it_is_an_error_of_one_line(saved):
    with pytest.raises(BTCChatError, match="device cuda was requested"):
        BTCChat.from_pretrained(saved, device="cuda")


def test_a_gpu_that_this_machine_does_not_have_is_an_error_of_one_line(saved, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == "cuda:1"
    with pytest.raises(
        BTCChatError, match="device cuda:2 was requested, but the GPUs here are cuda:0 to cuda:1; use one"
    ):
        BTCChat.from_pretrained(saved, device="cuda:2")


def test_a_changed_resolution_resizes_the_tower(folder):
    model = tiny_model(folder.parent, change_encoder={"change_encoder_type": "concat"})
    model.save_pretrained(folder.parent / "concat")
    bigger = BTCChat.from_pretrained(folder.parent / "concat", vision_resolution=48, device="cpu")
    assert bigger.layout.lengths("image", 1) == [9] and bigger.image_processor.size == (48, 48)
    with pytest.raises(
        BTCChatError, match=r"h_embedding.weight' has shape \(4, 8\), but the config says \(6, 8\); undo options or"
    ):
        BTCChat.from_pretrained(folder, vision_resolution=48)


def damage_missing_config(folder):
    (folder / "config.json").unlink()


def damage_json(folder):
    (folder / "config.json").write_text("{")


def damage_missing_key(folder):
    edit(folder / "llm/model.safetensors", **{"model.norm.weight": None})


def damage_unknown_key(folder):
    edit(folder / "mm_projector/model.safetensors", **{"layers.change.extra.weight": torch.zeros(1)})


def damage_shape(folder):
    edit(folder / "vision_tower/model.safetensors", **{"vision_model.post_layernorm.bias": torch.zeros(3)})


def damage_weights(folder):
    (folder / "llm/model.safetensors").unlink()


def damage_pickle(folder):
    state = load_file(folder / "llm/model.safetensors")
    (folder / "llm/model.safetensors").unlink()
    torch.save(state, folder / "llm/pytorch_model.bin")


def damage_truncate(folder):
    file = folder / "llm/model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def damage_tokenizer(folder):
    (folder / "llm/tokenizer.model").unlink()


def damage_encoder(folder):
    change = json.loads((folder / "mm_projector/config.json").read_text())
    change["change_encoder"]["change_encoder_type"] = "attentiv"
    (folder / "mm_projector/config.json").write_text(json.dumps(change))


def damage_tower(folder):
    config = json.loads((folder / "vision_tower/config.json").read_text())
    (folder / "vision_tower/config.json").write_text(json.dumps(config | {"vision_tower_type": "siglp"}))


def damage_tower_size(folder):
    config = json.loads((folder / "vision_tower/config.json").read_text())
    (folder / "vision_tower/config.json").write_text(json.dumps(config | {"intermediate_size": 8}))


def damage_projector(folder):
    config = json.loads((folder / "mm_projector/config.json").read_text())
    (folder / "mm_projector/config.json").write_text(json.dumps(config | {"mm_projector_type": "mlp_upsample"}))


def damage_template(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"conv_version": "v2"}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_missing_config, "config.json is missing"),
        (damage_json, "config.json is not JSON"),
        (damage_missing_key, "weight 'model.norm.weight' is missing .* download or save the checkpoint again$"),
        (damage_unknown_key, "unknown weight 'layers.change.extra.weight'.* download or save the checkpoint again$"),
        (damage_shape, r"'vision_model.post_layernorm.bias' has shape \(3,\), but the config says \(16,\)"),
        (damage_weights, "has no weights"),
        (damage_pickle, "pytorch_model.bin is a pickle, and only safetensors are read"),
        (damage_truncate, "cannot be read as safetensors"),
        (damage_tokenizer, "has no tokenizer"),
        (damage_encoder, "unknown change encoder 'attentiv' .did you mean 'attentive'.*choose from attentive, concat"),
        (damage_tower, "unknown vision tower 'siglp' .did you mean 'siglip'"),
        (damage_tower_size, "vision_tower/config.json: intermediate_size is 8, but the weights in .*_tower have 64"),
        (damage_projector, "unknown projector 'mlp_upsample' .did you mean 'mlp_downsample'"),
        (damage_template, "unknown prompt template 'v2' .did you mean 'v1'.*choose from chatml, llama3, plain, qwen3"),
    ],
)
def test_a_damaged_folder_is_an_error_of_one_line_that_names_the_fault(folder, damage, message):
    damage(folder)
    with pytest.raises(BTCChatError, match=message) as caught:
        BTCChat.from_pretrained(folder, device="cpu")
    assert "\n" not in str(caught.value)


def test_an_unknown_path_is_an_error_that_says_what_is_expected(tmp_path):
    with pytest.raises(BTCChatError, match="no model at .*: neither a folder here nor a hub id"):
        BTCChat.from_pretrained(tmp_path / "nothing" / "here")
    (tmp_path / "file").touch()
    with pytest.raises(BTCChatError, match="is a file; a model is a checkpoint folder or a hub id"):
        BTCChat.from_pretrained(tmp_path / "file")


def test_a_pickle_of_tensors_is_converted_and_one_with_code_is_refused(saved, folder):
    damage_pickle(folder)
    convert_pickles(folder / "llm")
    assert equal(BTCChat.from_pretrained(folder), BTCChat.from_pretrained(saved))
    (folder / "llm/model.safetensors").unlink()
    torch.save({"weight": json.JSONDecoder}, folder / "llm/pytorch_model.bin")  # any class stands for code
    with pytest.raises(BTCChatError, match="pytorch_model.bin"):
        convert_pickles(folder / "llm")
    assert not (folder / "llm/model.safetensors").exists()


def test_an_error_while_saving_leaves_the_old_checkpoint_intact(saved, folder, monkeypatch):
    model = BTCChat.from_pretrained(folder, device="cpu")
    with torch.no_grad():
        model.llm.lm_head.weight.zero_()

    def full(*_, **__):
        raise OSError("full")

    monkeypatch.setattr(type(model.tokenizer), "save_pretrained", full)
    with pytest.raises(OSError, match="full"):
        model.save_pretrained(folder)
    monkeypatch.undo()
    assert equal(BTCChat.from_pretrained(folder, device="cpu"), BTCChat.from_pretrained(saved, device="cpu"))
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_published_parts_join_into_a_model_that_saves_and_loads(saved, tmp_path):
    """A Hugging Face SigLIP (both halves in one file, sizes under vision_config) and a separate causal LM."""
    tower = shutil.copytree(saved / "vision_tower", tmp_path / "siglip")
    text = {"text_model.head.weight": torch.zeros(2), "text_model.encoder.layers.9.mlp.fc1.bias": torch.zeros(2)}
    edit(tower / "model.safetensors", **text, logit_scale=torch.zeros(1))
    config = json.loads((tower / "config.json").read_text())
    (tower / "config.json").write_text(json.dumps({"model_type": "siglip", "vision_config": config}))
    (tower / "preprocessor_config.json").unlink()
    model = BTCChat.from_parts(vision_tower=tower, llm=saved / "llm", mm_vision_select_layer=-1, device="cpu")
    origin = BTCChat.from_pretrained(saved, device="cpu")
    assert equal(model.vision_tower, origin.vision_tower) and equal(model.llm, origin.llm)
    assert model.config.change_encoder["change_encoder_type"] == "attentive"
    model.save_pretrained(tmp_path / "joined")
    assert equal(model, BTCChat.from_pretrained(tmp_path / "joined", device="cpu"))


def test_a_tied_qwen2_joins_without_its_own_head(saved, tmp_path):
    model = tiny_model(tmp_path, llm="qwen2")
    tied = build_language_model(model.config.llm | {"tie_word_embeddings": True})
    tied.save_pretrained(tmp_path / "llm")
    model.tokenizer.save_pretrained(tmp_path / "llm")
    assert "lm_head.weight" not in load_file(tmp_path / "llm/model.safetensors")
    parts = {"vision_tower": saved / "vision_tower", "llm": tmp_path / "llm", "conv_version": "qwen_1_5"}
    model = BTCChat.from_parts(**parts, mm_vision_select_layer=-1, device="cpu")
    assert equal(model.llm, tied) and model.llm.lm_head.weight is model.llm.model.embed_tokens.weight


def test_a_change_encoder_is_saved_under_its_own_name_not_an_alias(saved, tmp_path):
    parts = {"vision_tower": saved / "vision_tower", "llm": saved / "llm", "mm_vision_select_layer": -1}
    model = BTCChat.from_parts(**parts, change_encoder={"change_encoder_type": "cc_expert"}, device="cpu")
    expected = {"change_encoder_type": "difference_aware"} | encoder_defaults("difference_aware")
    assert model.config.change_encoder == expected
    model.config.change_encoder = {"change_encoder_type": "cc_expert"}  # as older versions saved it
    model.save_pretrained(tmp_path / "joined")
    again = BTCChat.from_pretrained(tmp_path / "joined", chg_type="difference_aware", device="cpu")
    assert again.config.change_encoder == expected


def test_a_pair_prompt_that_does_not_fit_is_an_error_at_loading(saved):
    with pytest.raises(
        BTCChatError, match="pair_prompt has 2 <image>, expected 1, one for each segment of a pair: 'from <image> to"
    ):
        BTCChat.from_pretrained(saved, pair_prompt="from <image> to <image>. ", device="cpu")
    BTCChat.from_pretrained(saved, pair_prompt="Look at <image>. ", device="cpu")


def test_the_hubs_reason_is_reported_in_full(monkeypatch):
    reason = "the repository is gated: " + "ask its owner for access and log in, " * 5 + "then try again."

    def refuse(*_, **__):
        raise OSError(reason)

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(BTCChatError, match=f"{reason}$"):
        BTCChat.from_pretrained("nobody/nothing")
