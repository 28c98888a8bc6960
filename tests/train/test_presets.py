"""Every shipped preset parses, its shell script is thin, and its smoke-sized version trains."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from btcchat.api import BTCChat
from btcchat.cli import main
from btcchat.data.mixture.mixture import known_sets, terms
from btcchat.errors import BTCChatError
from btcchat.train.flags import parse_arguments
from btcchat.train.presets import expand, load_preset, presets, to_argv

ROOT = Path(__file__).resolve().parents[2]
PROJECTOR = {"change_encoder", "mm_projector"}
EVERYTHING = PROJECTOR | {"vision_tower", "llm"}
TRAINED = {
    **{f"ccexpert/{size}/1_cpt": PROJECTOR for size in ("0.5b", "7b")},
    **{f"ccexpert/{size}/{stage}": EVERYTHING for size in ("0.5b", "7b") for stage in ("2_cpt", "3_sft")},
    **{f"ccexpert/{size}/baseline": EVERYTHING - {"change_encoder"} for size in ("0.5b", "7b")},
    "release/3b/change_encoder": {"change_encoder"},
    "release/3b/sft": {"llm"},
    "release/3b/sft_lora": PROJECTOR | {"llm"},
    "release/3b/sft_qlora": PROJECTOR | {"llm"},
    "small/1_change_encoder": PROJECTOR,
    "small/2_sft": PROJECTOR | {"llm"},
    "small/levir_cc": PROJECTOR | {"llm"},
    "tiny/1_align": {"vision_tower", "mm_projector", "llm"},
    "tiny/2_change_encoder": PROJECTOR | {"vision_tower", "llm"},
    "tiny/3_llm": PROJECTOR | {"llm"},
    "tiny/4_questions": PROJECTOR | {"llm"},
}


def test_every_published_stage_has_a_preset():
    assert set(presets()) == set(TRAINED)


@pytest.mark.parametrize("name", TRAINED)
def test_the_flags_of_a_preset_parse(name, monkeypatch):
    for gpu in ("bf16_gpu", "tf32"):  # the presets of the 3B model need a GPU
        monkeypatch.setattr(f"btcchat.train.hardware.is_torch_{gpu}_available", lambda: True)
    flags = load_preset(name)
    model, data, training = parse_arguments(to_argv(flags))
    assert terms(data.data_mixture, known_sets())
    assert training.tune_vision_tower == ("vision_tower" in TRAINED[name])
    assert training.tune_language_model or training.lora_enable or "llm" not in TRAINED[name]
    if training.mm_tunable_parts:
        selected = {
            "change_encoder": training.tune_cc_projector,
            "mm_projector": training.tune_single_projector,
            "llm": training.tune_language_model,
            "vision_tower": training.tune_vision_tower,
        }
        assert {part for part, tuned in selected.items() if tuned} == TRAINED[name]
    assert model.model_name_or_path


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for gpu in ("bf16_gpu", "tf32"):
        monkeypatch.setattr(f"btcchat.train.hardware.is_torch_{gpu}_available", lambda: False)


@pytest.mark.parametrize("name", TRAINED)
def test_without_a_gpu_the_error_names_the_flags_that_make_a_preset_run(name, no_gpu, capsys, monkeypatch):
    monkeypatch.setattr("btcchat.train.train.train", lambda *arguments: None)  # flags alone, no model
    flags = load_preset(name)
    if not {"tf32", "bits"} & flags.keys():  # the presets of the tiny model run on a CPU
        assert main(["train", name]) == 0
        return
    assert main(["train", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("btcchat: error: no GPU for --bf16 True --tf32 True"), line
    add = line.partition("; to train on the CPU, add ")[2].split()
    assert add == ["--use_cpu", "True", "--tf32", "False", *(["--bits", "16"] if "bits" in flags else [])]
    assert main(["train", name, *add]) == 0, capsys.readouterr().err


def test_an_older_gpu_gets_different_advice_from_no_gpu(no_gpu, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(BTCChatError, match="^this GPU cannot compute with --bf16 True --tf32 True; add --bf16 False"):
        parse_arguments(to_argv(load_preset("release/3b/sft")))


def test_without_a_gpu_the_advice_for_deepspeed_has_no_flag_that_it_rejects(no_gpu):
    pytest.importorskip("deepspeed")
    flags = [*to_argv(load_preset("release/3b/sft")), "--deepspeed", str(ROOT / "scripts" / "zero2.json")]
    with pytest.raises(BTCChatError, match="no GPU for --tf32 True; to train on the CPU, add --tf32 False$"):
        parse_arguments(flags)


DEPTHS = [-11, -8, -5, -2]
CCEXPERT = {  # stage -> samples a step on 8 GPUs, epochs, rate of the tower, depths, change encoder, data
    "1_cpt": (64, 1, None, DEPTHS, "cc_expert", "cc_foundation_cpt"),
    "2_cpt": (256, 1, 2e-6, DEPTHS, "cc_expert", "cc_foundation_cpt"),
    "3_sft": (256, 50, 2e-6, DEPTHS, "cc_expert", "levir_cc@random_choice"),
    "baseline": (256, 50, 2e-6, -2, "concat", "levir_cc@random_choice"),
}
ALIKE = {  # the same in all stages
    "learning_rate": 1e-5,
    "weight_decay": 0.0,
    "warmup_ratio": 0.03,
    "lr_scheduler_type": "cosine",
    "model_max_length": 32768,
    "bf16": True,
    "version": "qwen_1_5",
    "image_aspect_ratio": "square",
    "mm_projector": "mlp2x_gelu",
    "vision_tower": "google/siglip-so400m-patch14-384",
}


@pytest.mark.parametrize("size", ["0.5b", "7b"])
@pytest.mark.parametrize("stage", CCEXPERT)
def test_ccexpert_is_trained_with_its_published_hyper_parameters(stage, size, monkeypatch):
    for gpu in ("bf16_gpu", "tf32"):
        monkeypatch.setattr(f"btcchat.train.hardware.is_torch_{gpu}_available", lambda: True)
    name = f"ccexpert/{size}/{stage}"
    given = parse_arguments(to_argv(load_preset(name)))
    model, data, training = given
    batch = 8 * training.per_device_train_batch_size * training.gradient_accumulation_steps
    rates = (training.num_train_epochs, training.mm_vision_tower_lr)
    parts = (model.mm_vision_select_layer, model.chg_type)
    assert (batch, *rates, *parts, data.data_mixture) == CCEXPERT[stage]
    assert {key: next(getattr(one, key) for one in given if hasattr(one, key)) for key in ALIKE} == ALIKE
    assert model.cc_expert_args == ({"downsample_ratio": 1, "per_expert_depth": 2} if "cc" in model.chg_type else None)
    assert "--deepspeed scripts/zero2.json" in (ROOT / "scripts" / "v1_5" / f"{name}.sh").read_text()
    assert json.loads((ROOT / "scripts" / "zero2.json").read_text())["zero_optimization"]["stage"] == 2


def test_the_mixture_of_continual_pre_training_has_the_published_sets_and_repeats():
    mixture = terms("cc_foundation_cpt", known_sets())
    assert {term.captions for term in mixture} == {"flatten_list"} and {term.sampling for term in mixture} == {"all"}
    assert Counter(Path(term.description["annotation"]).stem for term in mixture) == {
        "changesim_train_universal": 1,
        "changesim_test_universal": 1,
        "CLEVIR_Change_train_change_universal_random3": 1,
        "CLEVIR_Change_val_change_universal_random3": 1,
        "CLEVIR_Change_train_nochange_universal_random3": 1,
        "CLEVIR_Change_val_nochange_universal_random3": 1,
        "image_edit_request_train_universal": 1,
        "image_edit_request_val_universal": 1,
        "spotthediff_train_universal": 2,
        "spotthediff_val_universal": 2,
        "stvchrono_train_universal": 1,
        "stvchrono_test_universal": 1,
        "Vismin_train_universal": 1,
        "LevirCCcaptions_train_universal": 6,
        "sysucd_train_universal": 3,
        "sysucd_val_universal": 3,
        "second_allinone_multi_express_universal_format": 3,
        "second_multi_view_universal_format": 3,
    }


@pytest.mark.parametrize("name", [name for name in TRAINED if name.endswith(("3_sft", "baseline"))])
def test_the_best_epoch_of_ccexpert_is_chosen_on_val(name):
    flags = load_preset(name)
    assert (flags["eval_mixture"], flags["eval_strategy"], flags["metric_for_best_model"]) == (
        "levir_cc:val",
        "epoch",
        "S*m",
    )


@pytest.mark.parametrize("name", TRAINED)
def test_the_script_of_a_preset_is_thin_and_passes_flags_on(name, tmp_path):
    script = ROOT / "scripts" / "v1_5" / f"{name}.sh"
    assert len(script.read_text().splitlines()) <= 25
    for program in ("python", "torchrun", "deepspeed"):  # replaced by scripts that print their arguments
        (tmp_path / program).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        (tmp_path / program).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [str(script), "--learning_rate", "7e-7"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
    words = done.stdout.splitlines()
    assert "btcchat.train.train_mem" in words or "btcchat/train/train_mem.py" in words
    flags = expand(words[words.index("--preset") :])
    assert flags[:2] == to_argv(load_preset(name))[:2]
    assert flags[-2:] == ["--learning_rate", "7e-7"]
    if "--deepspeed" in flags:
        assert (ROOT / flags[flags.index("--deepspeed") + 1]).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_the_smoke_version_of_a_preset_trains_the_same_parts(name, tmp_path):
    flags = load_preset(name)
    assert main(["train", name, "--smoke", "--output_dir", str(tmp_path)]) == 0
    model = BTCChat.from_pretrained(tmp_path, dtype=torch.float32, device="cpu")
    assert isinstance(model.ask("What changed?", pair=2 * [next(tmp_path.rglob("*_before.jpg"))]), str)
    if "lora_enable" in flags:
        return  # its names are those of the adapter
    before = BTCChat.from_pretrained(tmp_path / "smoke" / "model", dtype=torch.float32, device="cpu").state_dict()
    after = {key: value for key, value in model.state_dict().items() if key in before}
    moved = {key.partition(".")[0] for key, value in after.items() if not torch.equal(value, before[key])}
    fresh = {"change_encoder"} if flags.get("from_origin") else set()
    assert moved == TRAINED[name] - fresh


def test_smoke_replaces_only_what_smoke_has_made(tmp_path):
    mine = tmp_path / "mine" / "smoke" / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("keep")
    with pytest.raises(BTCChatError, match="--smoke overwrites its --output_dir, and .*mine holds files of yours"):
        expand(["--preset", "tiny/3_llm", "--smoke", "--output_dir", str(tmp_path / "mine")])
    assert mine.read_text() == "keep"
    for _ in range(2):
        expand(["--preset", "tiny/3_llm", "--smoke", "--output_dir", str(tmp_path / "its")])
    assert (tmp_path / "its" / "smoke" / "model" / "config.json").is_file()


def test_flags_after_a_preset_override_it():
    flags = expand(
        ["--local_rank=0", "--preset", "tiny/3_llm", "--learning_rate", "1", "--mm_vision_select_layer", "-2"]
    )
    assert flags[-5:] == ["--local_rank=0", "--learning_rate", "1", "--mm_vision_select_layer", "-2"]
    training = parse_arguments(expand(["--preset", "tiny/3_llm", "--learning_rate", "1", "--bf16", "False"]))[2]
    assert (training.learning_rate, training.bf16, training.weight_decay) == (1.0, False, 0.05)


@pytest.mark.parametrize(
    ("environment", "typed", "root", "logged"),
    [
        (None, [], "runs/tiny/data", False),
        ("", [], "runs/tiny/data", False),
        ("/mine", [], None, True),  # None: BTCCHAT_DATA, as without a preset
        ("/mine", ["--data_root", "here"], "here", False),
        ("/mine", ["--data_root=here"], "here", False),
    ],
)
def test_the_data_root_is_that_of_the_command_then_of_the_environment_then_of_the_preset(
    environment, typed, root, logged, monkeypatch, caplog
):
    monkeypatch.delenv("BTCCHAT_DATA", raising=False)
    if environment is not None:
        monkeypatch.setenv("BTCCHAT_DATA", environment)
    with caplog.at_level("INFO", "btcchat"):
        words = expand(["--preset", "tiny/3_llm", *typed])
    assert parse_arguments(words)[1].data_root == root
    message = "the data root is /mine (BTCCHAT_DATA); for the preset's, add --data_root runs/tiny/data"
    assert (message in caplog.messages) == logged


def test_the_scenes_of_smoke_are_used_whatever_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("BTCCHAT_DATA", "/mine")
    words = expand(["--preset", "tiny/3_llm", "--smoke", "--output_dir", str(tmp_path / "out")])
    assert parse_arguments(words)[1].data_root == str(tmp_path / "out" / "smoke" / "data")


def test_your_own_preset_can_extend_a_file_next_to_it(tmp_path):
    (tmp_path / "base.yaml").write_text("seed: 1\nmax_steps: 3\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\nmax_steps: 5\ntf32:\n")
    assert expand(["--preset", str(tmp_path / "mine.yaml")]) == ["--seed", "1", "--max_steps", "5"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--preset", "tiny/1_alignn"], r"unknown preset 'tiny/1_alignn' \(did you mean 'tiny/1_align'\?\)"),
        (["--preset", "nowhere.yaml"], "no preset nowhere.yaml"),
        (["--preset", "list.yaml"], "list.yaml is not a preset"),
        (["--preset", "broken.yaml"], "broken.yaml is not YAML"),
        (["--preset", "two.yaml"], r"two.yaml: extends is \['list.yaml'\], expected the name of one file"),
        (["--preset", "loop.yaml"], r"preset loop.yaml extends itself \(loop.yaml > back.yaml > loop.yaml\)"),
        (["--smoke"], "--smoke needs --preset NAME"),
    ],
)
def test_a_preset_that_cannot_be_read_is_an_error(argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("list.yaml").write_text("- seed\n")
    Path("broken.yaml").write_text("seed: [1\n")
    Path("two.yaml").write_text("extends: [list.yaml]\n")
    Path("loop.yaml").write_text("extends: back.yaml\n")
    Path("back.yaml").write_text("extends: loop.yaml\n")
    with pytest.raises(BTCChatError, match=message):
        expand(argv)


def test_presets_are_listed_without_torch():
    code = "import sys; from btcchat.cli import main; main(['train', '--list']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(presets())


def test_an_error_of_training_is_the_commands_error(capsys):
    assert main(["train", "tiny/3_llm", "--tune_vision_towr", "True"]) == 2
    assert "unknown flag '--tune_vision_towr' (did you mean '--tune_vision_tower'?)" in capsys.readouterr().err


def test_a_preset_that_extends_a_file_that_is_not_there_says_so(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: tiny/3_llm\n")
    words = "mine.yaml extends .*/tiny/3_llm, which does not exist; .*so copy a shipped preset there"
    with pytest.raises(BTCChatError, match=words):
        load_preset(str(tmp_path / "mine.yaml"))
