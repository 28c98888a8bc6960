"""Published LLaVA-NeXT folders: loaded as they are, imported into our layout, and exported back."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from btcchat import BTCChat
from btcchat.checkpoint.adapter import Base, attach
from btcchat.checkpoint.folder import open_folder
from btcchat.checkpoint.llava_next import published_config
from btcchat.checkpoint.load import stored_dtype
from btcchat.checkpoint.relayout import export_llava_next, import_llava_next
from btcchat.cli import main
from btcchat.errors import BTCChatError
from btcchat.eval.encoders.machine import CLEAR, memory, reset_peak
from btcchat.files import write_json
from btcchat.generation import GenerationOptions, generate_ids
from btcchat.multimodal_encoder import siglip
from btcchat.processor import request
from btcchat.train.arguments import DataArguments, ModelArguments
from btcchat.train.start import load_model
from tests.tiny import ATTENTIVE, rope_of, tiny_model

DIFFERENCE_AWARE = {"change_encoder_type": "difference_aware", "mlp_dim": 24}
MLP = {"mm_projector_type": "mlp2x_gelu"}


def weights(folder):
    return {key: value for file in folder.glob("*.safetensors") for key, value in load_file(file).items()}


def equal(ours, theirs) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """ours/: one of our models; tower/: its tower's config; published/: ours in three shards, with unused weights."""
    root = tmp_path_factory.mktemp("llava_next")
    model = tiny_model(
        root, change_encoder=DIFFERENCE_AWARE, llm="qwen2", mm_vision_select_layer=[-2, -1], mm_projector=MLP
    )
    model.save_pretrained(root / "ours", max_shard_size="30KB")
    write_json(root / "tower" / "config.json", dict(model.vision_tower.config))
    export_llava_next(root / "ours", root / "published", vision_tower=str(root / "tower"))
    published = root / "published"
    state = weights(published)
    state["model.image_newline"] = torch.ones(32)
    state["model.vision_resampler.layers.0.norm4.weight"] = torch.ones(16)
    for file in published.glob("model*"):
        file.unlink()
    names, index = sorted(state), {}
    for number in range(3):
        name = f"model-{number + 1:05}-of-00003.safetensors"
        save_file({key: state[key] for key in names[number::3]}, published / name)
        index |= dict.fromkeys(names[number::3], name)
    write_json(published / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})
    return root


@pytest.fixture
def published(base, tmp_path):
    return shutil.copytree(base / "published", tmp_path / "published")


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    write_json(folder / "config.json", config)


def test_a_published_folder_loads_as_the_model_it_was_made_from(base):
    model = BTCChat.from_pretrained(base / "published", device="cpu")
    assert equal(model.state_dict(), BTCChat.from_pretrained(base / "ours", device="cpu").state_dict())
    assert model.config.conv_version == "qwen_1_5"
    assert model.change_encoder.segments == 2


def test_import_and_export_are_bit_equal_unused_weights_included(base, tmp_path):
    assert main(["import", "llava-next", str(base / "published"), str(tmp_path / "ours")]) == 0
    assert equal(
        BTCChat.from_pretrained(tmp_path / "ours", device="cpu").state_dict(),
        BTCChat.from_pretrained(base / "published", device="cpu").state_dict(),
    )
    assert main(["export", "--llava-next", str(tmp_path / "ours"), str(tmp_path / "back")]) == 0
    assert equal(weights(tmp_path / "back"), weights(base / "published"))
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert config == json.loads((base / "published" / "config.json").read_text())
    assert (tmp_path / "back" / "vocab.json").exists()
    assert (tmp_path / "back" / "merges.txt").exists()


ONEVISION = {  # config.json of llava-onevision-qwen2-*-ov, except sizes and paths
    "architectures": ["LlavaQwenForCausalLM"],
    "model_type": "llava",
    "cc_expert_args": None,
    "image_aspect_ratio": "anyres_max_9",
    "image_grid_pinpoints": [[384, 384], [384, 768]],
    "max_window_layers": 24,
    "mm_newline_position": "one_token",
    "mm_patch_merge_type": "spatial_unpad",
    "mm_resampler_type": None,
    "mm_spatial_pool_mode": "bilinear",
    "mm_tunable_parts": "mm_vision_tower,mm_mlp_adapter,mm_language_model",
    "mm_vision_select_layer": -2,
    "rope_scaling": None,
    "sliding_window": 32768,
    "text_config": {"model_type": "llama"},
    "use_sliding_window": False,
    "vision_config": {"hidden_size": 1024, "model_type": "clip_vision_model"},
}


@pytest.fixture
def onevision(published):
    """Layer -2 of the whole tower is read, and the last block is not stored."""
    state = weights(published)
    state = {k: v for k, v in state.items() if "encoder.layers.1." not in k and "resampler" not in k}
    for file in published.glob("model*"):
        file.unlink()
    save_file(state, published / "model.safetensors")
    edit(published, **ONEVISION)
    return published


def test_a_onevision_folder_is_recognised_by_its_architecture(onevision, tmp_path):
    assert main(["import", "llava-next", str(onevision), str(tmp_path / "ours")]) == 0
    model = BTCChat.from_pretrained(tmp_path / "ours", device="cpu")
    assert (model.config.llm["model_type"], model.config.conv_version) == ("qwen2", "qwen_1_5")
    edit(onevision, architectures=["LlavaLlamaForCausalLM"])
    with pytest.raises(BTCChatError, match=r"\(architectures LlavaLlamaForCausalLM, model_type llava\)"):
        BTCChat.from_pretrained(onevision, device="cpu")


def test_blocks_that_onevision_does_not_store_are_not_required(onevision):
    model = BTCChat.from_pretrained(onevision, device="cpu")
    assert model.config.change_encoder == {"change_encoder_type": "concat"}
    assert model.vision_tower.select_layers == [1]
    assert model.config.vision_tower["num_stored_layers"] == 1
    with pytest.raises(
        BTCChatError, match="needs layer 2 of the vision tower, but the checkpoint has only the first 1"
    ):
        BTCChat.from_pretrained(onevision, device="cpu", mm_vision_select_layer=-1)


def test_any_resolution_is_read_as_one_square_with_a_warning(published, caplog):
    edit(published, image_aspect_ratio="anyres_max_9", mm_patch_merge_type="spatial_unpad")
    model = BTCChat.from_pretrained(published, device="cpu")
    assert model.image_processor.aspect_ratio == "square"
    assert "anyres_max_9 is not supported; each image is squashed to one square" in caplog.text


def test_settings_that_are_read_differently_are_logged_once(published, tmp_path, caplog):
    edit(published, mm_patch_merge_type="spatial_unpad", rope_scaling={"type": "linear", "factor": 2.0})
    import_llava_next(published, tmp_path / "ours")
    messages = [record.getMessage() for record in caplog.records if record.name == "btcchat.checkpoint.folder"]
    assert messages == [
        f"{published}: mm_patch_merge_type spatial_unpad is not supported; it is read as flat, without image_newline",
        f'{published}: rope_scaling {{"type": "linear", "factor": 2.0}} is ignored, as in the published code',
    ]
    assert rope_of(BTCChat.from_pretrained(tmp_path / "ours", device="cpu").llm)[1] is None
    caplog.clear()
    edit(published, image_aspect_ratio="anyres")
    import_llava_next(published, tmp_path / "again")
    assert caplog.text.count("is not supported") == 1


def config_of(folder, name="config.json") -> dict:
    return json.loads((folder / name).read_text())


def test_an_export_keeps_the_imported_config(onevision, tmp_path, caplog):
    edit(onevision, use_mm_proj=None, rope_scaling={"type": "linear", "factor": 2.0})
    stored = config_of(onevision)
    import_llava_next(onevision, tmp_path / "ours")
    export_llava_next(tmp_path / "ours", tmp_path / "back")
    assert config_of(tmp_path / "back") == stored
    assert equal(weights(tmp_path / "back"), weights(onevision))
    caplog.clear()
    model = BTCChat.from_pretrained(tmp_path / "ours", device="cpu", image_aspect_ratio="pad", caption_question="New?")
    model.config.llm["tokenizer_model_max_length"] = 99
    model.save_pretrained(tmp_path / "trained")
    export_llava_next(tmp_path / "trained", tmp_path / "changed")
    changed = config_of(tmp_path / "changed")
    assert {name: changed[name] for name in stored if changed[name] != stored[name]} == {
        "image_aspect_ratio": "pad",
        "mm_patch_merge_type": "flat",
        "tokenizer_model_max_length": 99,
    }
    assert "caption_question 'New?' cannot be stored in a LLaVA-NeXT folder; it loads as 'Please briefly" in caplog.text


def test_an_export_adds_no_option_that_the_imported_config_leaves_out(published, tmp_path):
    edit(published, cc_expert_args={"mlp_dim": 24})
    import_llava_next(published, tmp_path / "ours")
    export_llava_next(tmp_path / "ours", tmp_path / "back")
    assert config_of(tmp_path / "back")["cc_expert_args"] == {"mlp_dim": 24}


def test_a_model_without_a_change_encoder_does_not_list_it_as_trained(tmp_path):
    parts = {"change_encoder": {"change_encoder_type": "concat"}, "llm": "qwen2", "mm_projector": MLP}
    tiny_model(tmp_path, **parts).save_pretrained(tmp_path / "model")
    export_llava_next(tmp_path / "model", tmp_path / "out", vision_tower="google/siglip")
    assert config_of(tmp_path / "out")["mm_tunable_parts"] == "mm_mlp_adapter,mm_language_model,mm_vision_tower"


@pytest.mark.parametrize("way", ["import", "import and export"])
def test_the_golden_model_answers_the_same_after_import_and_after_export(way, shared, tmp_path):
    """Prompt ids and greedy ids are equal, logits to 1e-4, for the question that `btcchat caption` asks."""
    root = shared / "golden" / "ccexpert"
    folder, options = tmp_path / "ours", {}
    import_llava_next(root / "checkpoint", folder, vision_tower=root / "vision_tower_folder")
    if way == "import and export":
        folder, options = tmp_path / "back", {"vision_tower": root / "vision_tower_folder"}
        export_llava_next(tmp_path / "ours", folder)
        assert config_of(folder) == config_of(root / "checkpoint")
        assert equal(weights(folder), weights(root / "checkpoint"))
    model = BTCChat.from_pretrained(folder, **options, device="cpu", dtype="float32")
    golden, tensors = config_of(root, "checkpoint_golden.json"), load_file(root / "checkpoint_golden.safetensors")
    assert golden["cases"]
    for case in golden["cases"]:
        pair = [root / golden["images_folder"] / name for name in case["images"]]
        record = request(model.config.caption_question, "pair", pair)
        batch = model.processor.collate([model.processor(record, train=False)])
        assert batch["input_ids"][0].tolist() == case["input_ids"]
        with torch.no_grad():
            logits = model(**{**batch, "labels": None}).logits[0]
        torch.testing.assert_close(logits, tensors[f"{case['name']}.logits"].float(), atol=1e-4, rtol=0)
        options = GenerationOptions(max_new_tokens=golden["new_tokens"])
        assert generate_ids(model, batch, options)[0] == case["greedy_ids"]


def test_a_onevision_folder_may_be_given_a_fresh_change_encoder(published, tmp_path):
    state = {k: v for k, v in weights(published).items() if "resampler" not in k}
    for file in published.glob("model*"):
        file.unlink()
    save_file(state, published / "model.safetensors")
    edit(published, mm_resampler_type=None, model_type="llava_qwen", mm_vision_select_layer=-1)
    options = {"chg_type": "cc_expert", "cc_args": {"per_expert_depth": 1}, "mm_vision_select_layer": [-2, -1]}
    model = BTCChat.from_pretrained(published, device="cpu", from_origin=True, **options)
    model.save_pretrained(tmp_path / "ours")
    export_llava_next(tmp_path / "ours", tmp_path / "out")
    assert config_of(tmp_path / "out")["architectures"] == ["LlavaQwenCCForCausalLM"]
    assert "mm_vision_resampler" in config_of(tmp_path / "out")["mm_tunable_parts"]
    assert config_of(tmp_path / "out")["cc_expert_args"]["mlp_dim"] == 64  # as built
    again = BTCChat.from_pretrained(tmp_path / "out", device="cpu")
    assert equal(again.change_encoder.state_dict(), model.change_encoder.state_dict())
    assert len(model.change_encoder.layers) == 1
    assert model.vision_tower.num_depths == 2
    assert torch.equal(model.mm_projector[0].weight, state["model.mm_projector.0.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mm_vision_tower": "/nowhere/tower"}, "takes its vision tower's sizes from '/nowhere/tower'.*--vision-tower"),
        ({"mm_vision_tower": None}, "names no mm_vision_tower; give it as vision_tower"),
        ({"mm_vision_select_layer": "[-9,-2]"}, "mm_vision_select_layer -9 is out of range: the vision tower has 2 "),
        ({"mm_vision_select_layer": "deep"}, "mm_vision_select_layer is 'deep', expected one layer such as -2"),
        ({"mm_resampler_type": "qformer"}, "unknown mm_resampler_type 'qformer'.*choose from"),
        ({"mm_resampler_type": None}, "unknown weight 'model.vision_resampler."),
        (
            {"model_type": "mistral", "architectures": None},
            r"not a model that btcchat reads \(architectures none, model_type mistral\).*LlavaQwenForCausalLM, Llava",
        ),
        ({"mm_projector_type": "mlp3x_gelu"}, "weight 'model.mm_projector.4.bias' is missing"),
        (
            {"cc_expert_args": {"embedding_dim": 1152}},
            "embedding_dim is 1152, but the .* hidden_size is 16",
        ),
        (
            {"cc_expert_args": {}},
            r"lin1.bias' has shape \(24,\), but .* \(4608,\)",
        ),  # the published default
        ({"cc_expert_args": "{mlp_dim: 24}"}, r"config.json: cc_expert_args is '\{mlp_dim: 24\}', expected a JSON obj"),
        ({"cc_expert_args": [1]}, r"config.json: cc_expert_args is \[1\], expected a string or a JSON object"),
        ({"mm_vision_tower": 5}, "config.json: mm_vision_tower is 5, expected a string"),
        ({"mm_use_im_start_end": True}, "config.json: mm_use_im_start_end is true; image start/end tokens are not"),
        ({"s2": True}, "config.json: s2 is true; multi-scale S2 features are not supported"),
    ],
)
def test_a_wrong_folder_is_an_error_of_one_line_and_nothing_is_written(published, tmp_path, changes, message):
    edit(published, **changes)
    with pytest.raises(BTCChatError, match=message) as caught:
        import_llava_next(published, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


ROW = {
    "id": "1",
    "modality": "image",
    "image": "a.png",
    "question_type": "comp",
    "conversations": [{"from": "human", "value": "<image>\nIs it so?"}, {"from": "gpt", "value": "yes"}],
}


@pytest.fixture
def lost(published, tmp_path):
    """A folder whose tower cannot be downloaded by the name it gives, and a data set of one row."""
    edit(published, mm_vision_tower="/nowhere/tower")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW))
    (tmp_path / "sets.yaml").write_text("mine: {annotation: rows.jsonl, images: ., kind: rsvqa_lr}")
    return published


@pytest.mark.parametrize(
    "command",
    [
        "ask {} --image {}/a.png --max-new-tokens 2 --model {model} --device cpu",
        "data check mine --model {model} --workers 0",
        "data show mine --model {model} --out {}/page.html",
        "eval {model} mine --out {}/run --max-new-tokens 2 --device cpu",
        "export --llava-next {model} {}/out",
    ],
)
def test_every_command_with_a_model_accepts_the_tower_of_a_published_folder(command, lost, base, tmp_path, capsys):
    words = command.replace("ask {}", "ask What?").replace("{}", str(tmp_path)).format(model=lost).split()
    if words[0] in ("data", "eval"):
        words += ["--data-root", str(tmp_path), "--mixture-folder", str(tmp_path)]
    assert main(words) == 2
    assert "takes its vision tower's sizes from '/nowhere/tower'" in capsys.readouterr().err
    assert main([*words, "--vision-tower", str(base / "tower")]) == 0


def test_training_takes_the_sizes_of_the_given_tower(lost, base):
    data = DataArguments("mine")
    with pytest.raises(BTCChatError, match="takes its vision tower's sizes from '/nowhere/tower'"):
        load_model(ModelArguments(str(lost)), data, None)
    tower = str(base / "tower")
    assert load_model(ModelArguments(str(lost), vision_tower=tower), data, None).vision_tower.hidden_size == 16
    ours = load_model(ModelArguments(str(base / "ours"), vision_tower=tower), data, None)  # compared, as before
    assert ours.vision_tower.hidden_size == 16


def test_an_adapter_knows_the_tower_of_its_published_base(lost, base, tmp_path):
    model = BTCChat.from_pretrained(lost, vision_tower=base / "tower", device="cpu")
    attach(model.llm, r=2, lora_alpha=2, target_modules=["q_proj"])
    model.base = Base.of(lost, open_folder(lost, base / "tower"))
    model.save_pretrained(tmp_path / "adapter")
    assert BTCChat.from_pretrained(tmp_path / "adapter", device="cpu").vision_tower.hidden_size == 16
    with pytest.raises(BTCChatError, match=r"adapter is an adapter, .*merge it first: btcchat export --merge .*OUT$"):
        export_llava_next(tmp_path / "adapter", tmp_path / "out")
    with pytest.raises(BTCChatError, match="is already in btcchat's layout"):
        import_llava_next(tmp_path / "adapter", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("move", [import_llava_next, export_llava_next])
def test_the_output_folder_is_checked_first(move, tmp_path, monkeypatch):
    """Before a model is downloaded."""
    (tmp_path / "file").write_text("")
    for out, message in [("file/out", "cannot be created: .*file is not a writable"), ("file", "file already exists")]:
        with pytest.raises(BTCChatError, match=message):
            move("nobody/nothing", tmp_path / out)
    monkeypatch.setattr("btcchat.files.os.access", lambda path, mode: False)
    with pytest.raises(BTCChatError, match="out cannot be created: .* is not a writable folder"):
        move("nobody/nothing", tmp_path / "out")


def test_only_the_config_of_a_tower_on_the_hub_is_downloaded(published, base, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda name, allow_patterns: asked.append((name, allow_patterns)) or base / "tower",
    )
    edit(published, mm_vision_tower="google/siglip")
    open_folder(published)
    assert asked == [("google/siglip", ["config.json"])]


@pytest.mark.parametrize("move", ["import", "export"])
@pytest.mark.skipif(not CLEAR.exists(), reason="memory is read from /proc")
def test_no_shard_is_ever_in_memory(move, published, tmp_path):
    """Two shards of 64 MiB, each with one unused weight, are copied in parts of 16 MiB."""
    folder, size = published, 1 << 26
    index = config_of(published, "model.safetensors.index.json")
    for name in ("model.mm_cc_projector.0.weight", "model.mm_cc_projector.2.weight"):
        save_file({name: torch.ones(size // 4)}, published / f"{name}.safetensors")
        index["weight_map"][name] = f"{name}.safetensors"
    write_json(published / "model.safetensors.index.json", index)
    if move == "export":
        import_llava_next(published, tmp_path / "ours")
        folder = tmp_path / "ours"
    before = reset_peak(torch.device("cpu"))
    {"import": import_llava_next, "export": export_llava_next}[move](folder, tmp_path / "out")
    assert memory(torch.device("cpu"), peak=True) - before < 32
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*.safetensors")) > 2 * size


def test_newer_transformers_keys_for_rotary_embeddings_and_dtype_are_kept(published, tmp_path):
    rope = {"rope_theta": 5e5, "rope_type": "default"}
    stored = {name: value for name, value in config_of(published).items() if name not in ("rope_theta", "torch_dtype")}
    write_json(published / "config.json", stored | {"rope_parameters": rope, "dtype": "bfloat16"})
    import_llava_next(published, tmp_path / "ours")
    for folder in (published, tmp_path / "ours"):
        assert rope_of(BTCChat.from_pretrained(folder, device="cpu").llm) == (5e5, None)
    assert stored_dtype(tmp_path / "ours" / "llm") == "bfloat16"
    export_llava_next(tmp_path / "ours", tmp_path / "back")
    assert config_of(tmp_path / "back") == config_of(published)


def test_a_full_disk_is_an_error_of_one_line_and_leaves_nothing(base, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("btcchat.checkpoint.relayout._copy_tensors", full)
    with pytest.raises(BTCChatError, match="out cannot be written: No space left on device; free some space"):
        import_llava_next(base / "published", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 32}, "hidden_size is 32, but the weights in .*published have 16"),
        ({"hidden_size": "16"}, "hidden_size is '16', expected a whole number"),
        ({"hidden_size": None}, "hidden_size is None, expected a whole number"),
        ({"intermediate_size": 48}, "intermediate_size is 48, but the weights in .*published have 64"),
        ({"image_size": 64}, "image_size is 64, but the weights in .*published have 16 patches, not 64"),
        ({"num_hidden_layers": 1}, "num_hidden_layers is 1, but the weights in .*published have 2"),
        ({"model_type": "clip_vision_model"}, "unknown vision tower model_type 'clip_vision_model'.*choose from sig"),
    ],
)
def test_a_wrong_tower_is_an_error_that_names_the_key_and_the_way_out(changes, message, base, tmp_path):
    write_json(tmp_path / "config.json", config_of(base / "tower") | changes)
    with pytest.raises(BTCChatError, match=f"^{tmp_path}/config.json: {message}.*; give the tower .*--vision-tower.$"):
        BTCChat.from_pretrained(base / "published", vision_tower=tmp_path, device="cpu")


def test_a_size_missing_from_a_towers_config_is_its_default(base, tmp_path):
    stored = config_of(base / "tower")
    short = {key: value for key, value in stored.items() if siglip.DEFAULTS[key] != value}
    assert 0 < len(short) < len(stored)
    write_json(tmp_path / "config.json", {"model_type": "siglip", "vision_config": short})
    BTCChat.from_pretrained(base / "published", vision_tower=tmp_path, device="cpu")
    del short["intermediate_size"]
    write_json(tmp_path / "config.json", {"model_type": "siglip", "vision_config": short})
    with pytest.raises(BTCChatError, match="intermediate_size is left out, which means 3072, but the weights .* 64;"):
        BTCChat.from_pretrained(base / "published", vision_tower=tmp_path, device="cpu")


@pytest.mark.parametrize("which", ["model", "tower"])
def test_a_config_that_is_not_an_object_is_an_error_that_names_it(which, published, tmp_path):
    file = published / "config.json"
    if which == "tower":
        file = tmp_path / "tower" / "config.json"
        file.parent.mkdir()
        edit(published, mm_vision_tower=str(file.parent))
    file.write_text("[1]")
    with pytest.raises(BTCChatError) as error:
        import_llava_next(published, tmp_path / "out")
    assert f"{file} holds a list, expected an object" in error.value.args[0]


def test_an_unknown_weight_is_an_error_that_names_it(published):
    save_file({"model.extra.weight": torch.ones(1)}, published / "model-00003-of-00003.safetensors")
    with pytest.raises(BTCChatError, match="unknown weight 'model.extra.weight'"):
        BTCChat.from_pretrained(published, device="cpu")


def test_importing_or_exporting_the_wrong_layout_is_an_error(base, tmp_path):
    with pytest.raises(BTCChatError, match="is already in btcchat's layout; there is nothing to import"):
        import_llava_next(base / "ours", tmp_path / "out")
    with pytest.raises(BTCChatError, match="already exists; give a new folder"):
        import_llava_next(base / "published", base / "ours")
    with pytest.raises(BTCChatError, match="this model does not; give it as vision_tower"):
        export_llava_next(base / "ours", tmp_path / "out")
    with pytest.raises(BTCChatError, match="has its own vision tower; leave vision_tower out"):
        BTCChat.from_pretrained(base / "ours", vision_tower=base / "tower")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"change_encoder": ATTENTIVE, "llm": "qwen2", "mm_projector": MLP}, "has no change encoder 'attentive'"),
        ({"change_encoder": {"change_encoder_type": "concat"}}, "has no language model 'llama'; it supports qwen2"),
        ({"change_encoder": {"change_encoder_type": "concat"}, "llm": "qwen2"}, "has no projector 'mlp_downsample'"),
    ],
)
def test_a_model_that_this_layout_cannot_store_is_refused(parts, message, tmp_path):
    tiny_model(tmp_path, **parts).save_pretrained(tmp_path / "model")
    with pytest.raises(BTCChatError, match=message):
        export_llava_next(tmp_path / "model", tmp_path / "out", vision_tower="google/siglip")


def test_a_tower_of_another_kind_is_refused(tmp_path):
    config = tiny_model(tmp_path, change_encoder=DIFFERENCE_AWARE, llm="qwen2", mm_projector=MLP).config
    config.vision_tower = {"vision_tower_type": "timm", "model_name": "test_vit"}
    with pytest.raises(BTCChatError, match="has no vision tower 'timm'; it supports siglip"):
        published_config(config, "google/siglip")
