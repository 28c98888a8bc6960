"""A fresh change encoder or projector on any checkpoint: the other parts are kept, and the saved model loads again."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from btcchat import BTCChat, BTCChatError, Processor
from btcchat.change_encoder import CHANGE_ENCODERS
from btcchat.checkpoint import adapter
from btcchat.checkpoint.folder import open_folder
from btcchat.checkpoint.relayout import export_llava_next
from tests.own_encoder import OwnEncoder
from tests.tiny import tiny_model

KINDS = ("packaged", "unirs", "ccexpert", "vila", "adapter")
PAIR = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
MINE = {"chg_type": "mine", "fresh_change_encoder": True}
KEPT = ("vision_tower", "mm_projector", "llm")


@pytest.fixture(autouse=True)
def mine(monkeypatch):
    monkeypatch.setitem(CHANGE_ENCODERS, "mine", OwnEncoder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """vila: like an original checkpoint, whose projector is layers.*; base; adapter: of base, with an encoder."""
    root = tmp_path_factory.mktemp("fresh")
    tiny_model(root, change_encoder=None).save_pretrained(root / "vila")
    file = root / "vila/mm_projector/model.safetensors"
    state = {key.replace("layers.single.", "layers."): value for key, value in load_file(file).items()}
    save_file(state, file, metadata={"format": "pt"})
    tiny_model(root).save_pretrained(root / "base")
    model = BTCChat.from_pretrained(root / "base", device="cpu")
    adapter.attach(model.llm, target_modules=["q_proj"], r=2)
    model.base = adapter.Base.of(root / "base", open_folder(root / "base"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or name.startswith("mm_projector"):
                parameter += 0.1
    model.save_pretrained(root / "adapter")
    return root


@pytest.fixture
def source(folders, request):
    """``source(kind)``: what `from_pretrained` takes to load a checkpoint of this kind in float32."""

    def find(kind: str) -> dict:
        where = {"path": folders / kind}
        if kind == "packaged":
            where = {"path": "tiny"}
        if kind in ("unirs", "ccexpert"):
            shared = request.getfixturevalue("shared") / "golden" / kind
            where = {"path": shared / "checkpoint"}
            if kind == "ccexpert":
                where["vision_tower"] = shared / "vision_tower_folder"
        return where | {"device": "cpu", "dtype": "float32"}

    return find


def equal(ours, theirs) -> bool:
    a, b = ours.state_dict(), theirs.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def check_kept(model, source, kept=KEPT) -> None:
    assert [part for part in kept if not equal(getattr(model, part), getattr(source, part))] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_change_encoder_keeps_all_other_parts_and_loads_again(source, kind, tmp_path):
    before = BTCChat.from_pretrained(**source(kind))
    model = BTCChat.from_pretrained(**source(kind), **MINE, cc_args={"gain": 0.5})
    check_kept(model, before)
    assert isinstance(model.change_encoder, OwnEncoder) and model.change_encoder.gain == 0.5
    assert isinstance(model.caption(*PAIR, max_new_tokens=2), str)

    model.save_pretrained(tmp_path / "saved")
    again = BTCChat.from_pretrained(tmp_path / "saved", device="cpu", dtype="float32")
    assert equal(again, model) and again.config == model.config
    assert again.config.change_encoder == {"change_encoder_type": "mine", "gain": 0.5}
    assert Processor.from_pretrained(tmp_path / "saved").layout == model.layout


def test_an_adapter_with_a_fresh_change_encoder_saves_as_an_adapter_of_the_same_base(source, folders, tmp_path):
    model = BTCChat.from_pretrained(**source("adapter"), **MINE)
    model.save_pretrained(tmp_path / "saved")
    assert adapter.read_base(tmp_path / "saved") == adapter.read_base(folders / "adapter")
    assert not (tmp_path / "saved/llm/model.safetensors").exists()


@pytest.mark.parametrize("kind", ["packaged", "unirs", "ccexpert"])
def test_a_fresh_encoder_of_the_same_kind_does_not_load_the_stored_weights(source, kind):
    stored = BTCChat.from_pretrained(**source(kind))
    model = BTCChat.from_pretrained(**source(kind), fresh_change_encoder=True)
    check_kept(model, stored)
    assert model.config.change_encoder == stored.config.change_encoder  # no chg_type: the stored kind with its options
    assert model.change_encoder.state_dict().keys() == stored.change_encoder.state_dict().keys()
    assert not equal(model.change_encoder, stored.change_encoder)


def test_a_fresh_kind_has_its_own_defaults_and_options_override_the_checkpoints(source, folders):
    base = source("base")
    named = BTCChat.from_pretrained(**base, chg_type="Chg2Cap", fresh_change_encoder=True)
    defaults = {"change_encoder_type": "attentive", "cc_n_layers": 0, "cc_head": 8, "cc_dropout": 0.0}
    assert named.config.change_encoder == defaults
    unnamed = BTCChat.from_pretrained(**base, fresh_change_encoder=True, cc_args={"cc_n_layers": 2})
    assert unnamed.config.change_encoder == defaults | {"cc_n_layers": 2}
    assert len(unnamed.change_encoder.selftrans) == 2
    none = BTCChat.from_pretrained(**source("vila"), fresh_change_encoder=True)
    assert none.config.change_encoder == defaults
    removed = BTCChat.from_pretrained(**base, chg_type="concat", fresh_change_encoder=True)
    assert removed.config.change_encoder == {"change_encoder_type": "concat"}


def test_the_weights_of_a_replaced_part_are_counted_once(folders, caplog):
    caplog.set_level("INFO")
    BTCChat.from_pretrained(folders / "base", device="cpu", **MINE)
    stored = load_file(folders / "base/mm_projector/model.safetensors")
    count = sum(key.startswith("layers.change.") for key in stored)
    lines = [message for message in caplog.messages if "replaced parts" in message]
    assert len(lines) == 1 and f": {count} weights of replaced parts are not read (layers.change." in lines[0]


def test_the_same_seed_draws_the_same_weights(source):
    def weights(seed: int, **more) -> torch.Tensor:
        torch.manual_seed(seed)
        model = BTCChat.from_pretrained(**source("packaged"), **MINE, **more)
        return model.change_encoder.fuse.weight

    assert torch.equal(weights(3), weights(3)) and not torch.equal(weights(3), weights(4))
    assert torch.equal(weights(3), weights(3, fresh_mm_projector=True))


def test_only_weights_of_replaced_parts_may_be_missing_from_the_config(folders, tmp_path):
    folder = shutil.copytree(folders / "base", tmp_path / "copy")
    file = folder / "mm_projector/model.safetensors"
    state = load_file(file)
    options = {"device": "cpu"} | MINE
    save_file(state | {"layers.change.unheard_of": torch.ones(2)}, file)
    BTCChat.from_pretrained(folder, **options)
    save_file(state | {"layers.unheard_of": torch.ones(2)}, file)
    for more in ({}, {"fresh_mm_projector": True}):
        with pytest.raises(BTCChatError, match="unknown weight 'layers.unheard_of'"):
            BTCChat.from_pretrained(folder, **options, **more)
    name = next(key for key in state if key.startswith("layers.single."))
    save_file({key: value for key, value in state.items() if key != name}, file)
    with pytest.raises(BTCChatError, match=f"weight '{name}' is missing"):
        BTCChat.from_pretrained(folder, **options)


def test_a_projector_named_as_in_vila_is_kept_when_the_encoder_is_replaced(folders, tmp_path):
    """Its prefix, layers., is also that of the encoder's weights."""
    folder = shutil.copytree(folders / "base", tmp_path / "copy")
    file = folder / "mm_projector/model.safetensors"
    save_file({key.replace("layers.single.", "layers."): value for key, value in load_file(file).items()}, file)
    before = BTCChat.from_pretrained(folder, device="cpu")
    check_kept(BTCChat.from_pretrained(folder, device="cpu", **MINE), before)
    fresh = BTCChat.from_pretrained(folder, device="cpu", fresh_mm_projector=True)
    check_kept(fresh, before, ("vision_tower", "change_encoder", "llm"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"from_origin": True}, "has a change encoder already.* to replace it, use fresh_change_encoder"),
        (
            {"chg_type": "mine"},
            "chg_type is mine, but the checkpoint has attentive .*start a fresh mine with fresh_change_e",
        ),
        (
            {"cc_head": 4},
            r"cc_head is 4, but the checkpoint has 8 .*_encoder \(--fresh_change_encoder True\)",
        ),
        (
            {"mm_projector_type": "linear"},
            "mm_projector_type is linear, but the checkpoint has mlp_downsample .*fresh_mm_p",
        ),
    ],
)
def test_a_part_that_differs_names_the_option_that_replaces_it(source, options, message):
    with pytest.raises(BTCChatError, match=message):
        BTCChat.from_pretrained(**source("base"), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (MINE | {"cc_args": {"gian": 1}}, "unknown option 'gian' of change encoder 'mine'; it has gain"),
        (MINE | {"cc_head": 8}, "unknown option 'cc_head' of change encoder 'mine'; it has gain"),
        (MINE | {"cc_args": {"grid": 8}}, "unknown option 'grid' of change encoder 'mine'; it has gain"),
        (
            {"fresh_change_encoder": True, "cc_head": 8, "cc_args": {"cc_head": 4}},
            "option cc_head is 8 in cc_head and 4 in cc_args; give it once",
        ),
        ({"chg_type": "min", "fresh_change_encoder": True}, r"unknown change encoder 'min' \(did you mean 'mine'\?\)"),
        ({"fresh_mm_projector": True, "mm_projector_type": "mlp"}, "unknown projector 'mlp'"),
    ],
)
def test_invalid_options_are_errors_before_weights_are_read(source, options, message, monkeypatch):
    monkeypatch.setattr("btcchat.checkpoint.load.load_strict", lambda *_, **__: pytest.fail("weights were read"))
    with pytest.raises(BTCChatError, match=message):
        BTCChat.from_pretrained(**source("base"), **options)


def test_an_option_may_be_given_twice_with_the_same_value(source):
    twice = {"cc_head": 4, "cc_args": {"cc_head": 4}}
    model = BTCChat.from_pretrained(**source("base"), fresh_change_encoder=True, **twice)
    assert model.config.change_encoder["cc_head"] == 4
    with pytest.raises(TypeError, match="cc_args must be a dict of options of the change encoder, not str"):
        BTCChat.from_pretrained(**source("base"), fresh_change_encoder=True, cc_args='{"cc_head": 4}')


def test_attentive_on_a_ccexpert_checkpoint_needs_one_layer_and_drops_its_pair_prompt(source, tmp_path, caplog):
    ccexpert = source("ccexpert") | {"chg_type": "attentive", "fresh_change_encoder": True}
    with pytest.raises(BTCChatError, match="'attentive' takes one depth, got 4; set mm_vision_select_layer to one"):
        BTCChat.from_pretrained(**ccexpert)
    with caplog.at_level("WARNING"):
        model = BTCChat.from_pretrained(**ccexpert, mm_vision_select_layer=-2)
    assert "the checkpoint's pair_prompt 'This is the Image1 <image>." in caplog.text and "left out" in caplog.text
    assert (model.vision_tower.num_depths, model.config.pair_prompt) == (1, "")
    assert isinstance(model.caption(*PAIR, max_new_tokens=2), str)
    model.save_pretrained(tmp_path / "saved")
    again = BTCChat.from_pretrained(tmp_path / "saved", device="cpu", dtype="float32")
    assert equal(again, model) and again.config.mm_vision_select_layer == -2
    with pytest.raises(BTCChatError, match="pair_prompt has 2 <image>, expected 1, one for each segment"):
        BTCChat.from_pretrained(**ccexpert, mm_vision_select_layer=-2, pair_prompt="<image> and <image>")


def test_a_ccexpert_checkpoint_with_a_fresh_encoder_of_its_kind_is_exported_with_its_new_options(source, tmp_path):
    options = {"chg_type": "cc_expert", "cc_args": {"per_expert_depth": 1}, "fresh_change_encoder": True}
    model = BTCChat.from_pretrained(**source("ccexpert"), **options)
    assert "Image1" in model.config.pair_prompt  # it fits
    model.save_pretrained(tmp_path / "saved")
    export_llava_next(tmp_path / "saved", tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["cc_expert_args"]["per_expert_depth"] == 1
    again = BTCChat.from_pretrained(**source("ccexpert") | {"path": tmp_path / "out"})
    assert equal(again.change_encoder, model.change_encoder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("named", [None, "mlp3x_gelu"])
def test_a_fresh_projector_keeps_all_other_parts_and_loads_again(source, kind, named, tmp_path):
    before = BTCChat.from_pretrained(**source(kind))
    model = BTCChat.from_pretrained(**source(kind), fresh_mm_projector=True, mm_projector_type=named)
    check_kept(model, before, ("vision_tower", "change_encoder", "llm"))
    assert model.config.mm_projector == ({"mm_projector_type": named} if named else before.config.mm_projector)
    assert not equal(model.mm_projector, before.mm_projector)
    assert isinstance(model.caption(*PAIR, max_new_tokens=2), str)
    model.save_pretrained(tmp_path / "saved")
    again = BTCChat.from_pretrained(tmp_path / "saved", device="cpu", dtype="float32")
    assert equal(again, model) and Processor.from_pretrained(tmp_path / "saved").layout == model.layout


def test_both_parts_may_be_fresh_at_once(source):
    before = BTCChat.from_pretrained(**source("unirs"))
    model = BTCChat.from_pretrained(**source("unirs"), **MINE, fresh_mm_projector=True, mm_projector_type="linear")
    check_kept(model, before, ("vision_tower", "llm"))
    assert isinstance(model.caption(*PAIR, max_new_tokens=2), str)
