"""`--fresh_change_encoder` and `--fresh_mm_projector` on every kind of checkpoint, and options of presets."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from btcchat import BTCChat, Processor
from btcchat.change_encoder import CHANGE_ENCODERS
from btcchat.cli import main
from btcchat.errors import BTCChatError
from btcchat.train.arguments import ModelArguments
from btcchat.train.flags import parse_arguments
from btcchat.train.presets import expand
from tests.own_encoder import OwnEncoder

MINE = {"chg_type": "mine", "fresh_change_encoder": True, "cc_args": '{"gain": 0.5}'}
CPU = {"device": "cpu", "dtype": torch.float32}


@pytest.fixture(autouse=True)
def mine(monkeypatch):
    monkeypatch.setitem(CHANGE_ENCODERS, "mine", OwnEncoder)


def equal(ours, theirs) -> bool:
    a, b = ours.state_dict(), theirs.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def moved(model, source) -> list[str]:
    parts = ("vision_tower", "change_encoder", "mm_projector", "llm")
    return [part for part in parts if not equal(getattr(model, part), getattr(source, part))]


@pytest.fixture
def vila(tmp_path):
    """An original checkpoint: without a change encoder, its projector's weights are layers.*."""
    from tests.tiny import tiny_model

    tiny_model(tmp_path, change_encoder=None).save_pretrained(tmp_path / "vila")
    file = tmp_path / "vila/mm_projector/model.safetensors"
    state = {key.replace("layers.single.", "layers."): value for key, value in load_file(file).items()}
    save_file(state, file, metadata={"format": "pt"})
    return tmp_path / "vila"


@pytest.fixture
def start(checkpoint, request):
    """``start(kind)``: the flags that start from a checkpoint of this kind."""

    def flags(kind: str) -> dict:
        if kind == "vila":
            return {"model_name_or_path": request.getfixturevalue("vila")}
        if kind in ("unirs", "ccexpert"):
            golden = request.getfixturevalue("shared") / "golden" / kind
            tower = {"vision_tower": golden / "vision_tower_folder"} if kind == "ccexpert" else {}
            return {"model_name_or_path": golden / "checkpoint"} | tower
        return {"model_name_or_path": {"packaged": "tiny", "ours": checkpoint}[kind]}

    return flags


def load(flags: dict) -> BTCChat:
    return BTCChat.from_pretrained(flags["model_name_or_path"], vision_tower=flags.get("vision_tower"), **CPU)


@pytest.mark.parametrize("kind", ["packaged", "ours", "unirs", "ccexpert", "vila"])
def test_a_fresh_change_encoder_is_trained_and_all_other_parts_are_kept(run, start, kind, tmp_path):
    flags = start(kind)
    trainer = run(**flags, **MINE, tune_cc_projector=True)
    saved = BTCChat.from_pretrained(trainer.args.output_dir, **CPU)
    assert moved(saved, load(flags)) == ["change_encoder"]
    assert saved.config.change_encoder == {"change_encoder_type": "mine", "gain": 0.5}
    assert equal(saved, trainer.model)
    record = json.loads((tmp_path / "out/training.json").read_text())
    assert record["flags"]["fresh_change_encoder"] is True and record["flags"]["cc_args"] == {"gain": 0.5}
    assert record["model"]["change_encoder"] == saved.config.change_encoder


def test_the_runs_seed_draws_the_fresh_weights(run, start, tmp_path):
    flags = start("ours") | MINE | {"tune_language_model": True, "max_steps": 1}  # the encoder stays as drawn
    drawn = [
        run(**flags, seed=seed, output_dir=tmp_path / str(number)).model.change_encoder.fuse.weight
        for number, seed in enumerate((3, 3, 4))
    ]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_a_fresh_and_frozen_part_is_warned_about(run, start, caplog):
    run(**start("ours"), **MINE, fresh_mm_projector=True, tune_language_model=True, max_steps=1)
    assert (
        "the change encoder is fresh and frozen" in caplog.text and "the projector is fresh and frozen" in caplog.text
    )


def test_a_resumed_run_keeps_what_its_checkpoint_has_learnt(run, start, tmp_path):
    flags = start("ours") | MINE | {"tune_cc_projector": True, "fresh_mm_projector": True, "mm_projector": "linear"}
    whole = run(**flags, max_steps=3, save_strategy="steps", save_steps=2, output_dir=tmp_path / "run")
    state = {key: value.clone() for key, value in whole.model.state_dict().items()}
    (tmp_path / "run/config.json").unlink()
    resumed = run(**flags, max_steps=3, save_strategy="steps", save_steps=2, output_dir=tmp_path / "run", resume=True)
    assert all(torch.equal(value, state[key]) for key, value in resumed.model.state_dict().items())


def test_the_layers_are_set_for_a_fresh_change_encoder(run, start):
    flags = start("ccexpert") | {"tune_cc_projector": True}
    with pytest.raises(
        BTCChatError, match="--mm_vision_select_layer is -1, .*leave the flag out, or add --fresh_chang"
    ):
        run(**flags, mm_vision_select_layer=-1)
    flags |= {"fresh_change_encoder": True, "chg_type": "Chg2Cap"}
    with pytest.raises(BTCChatError, match="takes one depth, got 4; set mm_vision_select_layer to one layer"):
        run(**flags)
    trainer = run(**flags, mm_vision_select_layer=-2)
    saved = BTCChat.from_pretrained(trainer.args.output_dir, **CPU)
    assert (saved.config.mm_vision_select_layer, saved.vision_tower.num_depths) == (-2, 1)


@pytest.mark.parametrize("kind", ["unirs", "ccexpert", "vila"])
def test_a_fresh_projector_is_trained_and_all_other_parts_are_kept(run, start, kind):
    flags = start(kind)
    with pytest.raises(BTCChatError, match="--mm_projector is linear, .*leave the flag out, or add --fresh_mm_projec"):
        run(**flags, mm_projector_type="linear", tune_single_projector=True)
    trainer = run(**flags, fresh_mm_projector=True, mm_projector_type="linear", tune_single_projector=True)
    saved = BTCChat.from_pretrained(trainer.args.output_dir, **CPU)
    assert moved(saved, load(flags)) == ["mm_projector"]
    assert saved.config.mm_projector == {"mm_projector_type": "linear"}


def test_an_adapter_with_a_fresh_change_encoder_holds_it_with_its_config(run, start):
    flags = start("ours")
    trainer = run(**flags, **MINE, tune_cc_projector=True, lora_enable=True, lora_r=2)
    saved = BTCChat.from_pretrained(trainer.args.output_dir, **CPU)
    assert saved.base is not None and saved.base.path == str(flags["model_name_or_path"])
    assert equal(saved.change_encoder, trainer.model.change_encoder)
    assert saved.config.change_encoder == {"change_encoder_type": "mine", "gain": 0.5}
    assert not equal(saved.llm, load(flags).llm) and equal(saved.vision_tower, load(flags).vision_tower)


def test_the_command_trains_on_tiny_and_the_data_commands_read_as_its_model(data_root, tmp_path, capsys):
    flags = {"model_name_or_path": "tiny", "chg_type": "attentive", "fresh_change_encoder": True, "cc_n_layers": 1}
    flags |= {"tune_cc_projector": True, "max_steps": 2, "use_cpu": True, "save_strategy": "no"}
    sets = {"data_root": data_root, "mixture_folder": data_root}
    flags |= sets | {"data_mixture": "pairs", "output_dir": tmp_path / "out", "dataloader_num_workers": 0}
    assert main(["train", *(word for name, value in flags.items() for word in (f"--{name}", str(value)))]) == 0
    where = [word for name, value in sets.items() for word in (f"--{name}", str(value))]
    for model in ("tiny", str(tmp_path / "out")):
        assert main(["data", "check", "pairs", *where, "--model", model]) == 0
        assert main(["data", "show", "pairs", *where, "--model", model, "--out", str(tmp_path / "show.html")]) == 0
    assert Processor.from_pretrained(tmp_path / "out").config.change_encoder["cc_n_layers"] == 1


# -- options, and presets ----------------------------------------------------------------------------------------------

NEEDED = ["--model_name_or_path", "m", "--data_mixture", "pairs", "--output_dir", "out", "--use_cpu", "True"]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--cc_args", '{"gain": 0.5}'], {"gain": 0.5}),
        (["--cc_expert_args", '{"gain": 0.5}', "--cc_head", "4"], {"gain": 0.5, "cc_head": 4}),
        (["--cc_args", '{"cc_head": 4, "gain": 2}', "--cc_head", "4"], {"gain": 2, "cc_head": 4}),
    ],
)
def test_an_option_has_one_name_and_the_published_flags_are_aliases_of_it(words, options):
    assert parse_arguments([*NEEDED, *words])[0].encoder_options == options


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--cc_args", '{"cc_head": 4}', "--cc_head", "8"],
            "cc_head is 4 in --cc_args and 8 in --cc_head; give it once",
        ),
        (["--cc_args", '{"a": 1}', "--cc_expert_args", '{"a": 2}'], "a is 1 in --cc_args and 2 in --cc_expert_args"),
        (["--cc_args", "{gain: 1}"], "--cc_args is {gain: 1}, expected a JSON object"),
        (["--cc_args", '{"cc_head": 0}'], "--cc_head is 0, expected 1 or more"),
    ],
)
def test_options_that_contradict_each_other_or_cannot_be_read_are_errors(words, message):
    with pytest.raises(BTCChatError, match=message):
        parse_arguments([*NEEDED, *words])


def encoder_flags(*argv: str) -> dict:
    """Flag -> value of the change encoder's flags, from a preset and the flags after it."""
    words = expand(["--preset", *argv])
    flags = dict(zip(words[::2], words[1::2], strict=True))
    return {name.removeprefix("--"): value for name, value in flags.items() if name.startswith(("--cc_", "--chg_type"))}


UNIRS = {"cc_n_layers": "0", "cc_head": "8", "cc_dropout": "0.1"}


def test_a_preset_passes_an_option_only_to_an_encoder_that_has_it(caplog):
    with caplog.at_level("INFO", logger="btcchat"):
        assert encoder_flags("release/3b/sft") == {"chg_type": "Chg2Cap"} | UNIRS
        assert encoder_flags("release/3b/sft", "--chg_type", "attentive") == {"chg_type": "attentive"} | UNIRS
        assert not caplog.records
        assert encoder_flags("release/3b/sft", "--chg_type", "mine") == {"chg_type": "mine"}
    left_out = "the preset's cc_dropout, cc_head and cc_n_layers are left out: change encoder 'mine' has no such option"
    assert [record.message for record in caplog.records] == [left_out]
    assert encoder_flags("release/3b/sft", "--chg_type", "concat", "--chg", "False") == {"chg_type": "concat"}


def test_a_preset_passes_only_json_options_that_the_encoder_has(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("chg_type: cc_expert\ncc_args: {per_expert_depth: 1, gain: 0.25}\n")
    flags = encoder_flags(str(tmp_path / "mine.yaml"), "--chg_type", "mine")
    assert flags == {"chg_type": "mine", "cc_args": '{"gain": 0.25}'}


def test_a_typed_option_that_the_encoder_lacks_is_an_error_that_lists_what_it_has(run, start):
    with pytest.raises(BTCChatError, match="unknown option 'cc_head' of change encoder 'mine'; it has gain"):
        run(**start("ours"), **MINE, cc_head=8, tune_cc_projector=True)
    assert encoder_flags("release/3b/sft", "--chg_type", "mine", "--cc_head", "4") == {
        "chg_type": "mine",
        "cc_head": "4",
    }


def test_a_typed_option_replaces_the_presets_by_whichever_flag_it_is_given():
    typed = ["--cc_args", '{"cc_head": 4}']
    words = encoder_flags("release/3b/sft", *typed)
    assert words == {"chg_type": "Chg2Cap", "cc_n_layers": "0", "cc_dropout": "0.1", "cc_args": '{"cc_head": 4}'}
    words = encoder_flags("ccexpert/0.5b/2_cpt", "--cc_args", '{"per_expert_depth": 1}')
    assert words == {"chg_type": "cc_expert", "cc_args": '{"per_expert_depth": 1}'}


def test_a_preset_that_extends_another_with_its_own_encoder_has_only_its_own_options(tmp_path):
    (tmp_path / "base.yaml").write_text("chg_type: Chg2Cap\ncc_head: 8\ncc_args: {cc_n_layers: 1}\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\nchg_type: mine\ncc_args: {gain: 3}\n")
    assert encoder_flags(str(tmp_path / "mine.yaml")) == {"chg_type": "mine", "cc_args": '{"gain": 3}'}
    (tmp_path / "typo.yaml").write_text("chg_type: mine\ncc_args: {gian: 3}\n")  # passed on: it is an error
    assert encoder_flags(str(tmp_path / "typo.yaml"))["cc_args"] == '{"gian": 3}'


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--fresh_change_encoder", "True", "--cc_args", '{"gain": 2}']])
def test_a_preset_can_be_tried_out_with_your_own_encoder(more, tmp_path):
    words = ["train", "release/3b/sft", "--smoke", "--chg_type", "mine", "--output_dir", str(tmp_path)]
    assert main([*words, *more]) == 0
    assert isinstance(BTCChat.from_pretrained(tmp_path, **CPU).change_encoder, OwnEncoder)


def test_help_names_the_flags():
    from dataclasses import fields

    text = {field.name: field.metadata["help"] for field in fields(ModelArguments)}
    assert "--fresh_mm_projector" in text["mm_projector"] and "--chg_type" in text["fresh_change_encoder"]
