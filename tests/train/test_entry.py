"""The entry script: flags, and errors as one line."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from btcchat.errors import BTCChatError
from btcchat.train.flags import MISSING, parse_arguments
from btcchat.train.training_arguments import TrainingArguments

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ["--model_name_or_path", "m", "--data_mixture", "a", "--output_dir", "o", "--use_cpu", "True"]


def test_the_text_false_is_read_as_false():
    training = parse_arguments([*NEEDED, "--tune_language_model", "False", "--tune_cc_projector", "False"])[2]
    assert training.tune_language_model is False
    assert training.tune_cc_projector is False
    assert training.tune_single_projector is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tune_vision_towr", "1"], r"unknown flag '--tune_vision_towr' \(did you mean '--tune_vision_tower'\?\)"),
        (["--tune_language", "True"], "unknown flag '--tune_language'"),  # no abbreviations
        (["--group_by_length", "True"], "there is no flag --group_by_length here; batches are grouped by length"),
        (["--save_strategy", "often"], "unknown --save_strategy 'often'; choose from epoch, no, steps"),
        (["--bf16", "True", "--fp16", "True"], "--bf16 and --fp16 are both True; choose one of them"),
        (["--label_smoothing_factor=0.1"], "there is no flag --label_smoothing_factor here; use --label_smoothing"),
        (["--do_train", "True"], "there is no flag --do_train here; this command always trains"),
        (["--hub_model_id", "me/mine"], "there is no flag --hub_model_id here; upload the finished folder"),
        (["--cc_dropout", "1.5"], "--cc_dropout is 1.5, expected 0 to 1"),
        (["--cc_head", "0"], "--cc_head is 0, expected 1 or more"),
        (["--num_video_frames", "0"], "--num_video_frames is 0, expected 1 or more"),
        (["--per_device_train_batch_size", "0"], "--per_device_train_batch_size is 0, expected 1 or more"),
        (["--adam_beta1", "7"], "--adam_beta1 is 7, expected 0 to 1"),
        (["--learning_rate", "-1"], "--learning_rate is -1, expected 0 or more"),
        (["--learning_rate", "inf"], "--learning_rate is inf, expected 0 or more"),
        (["--warmup_ratio", "3"], "--warmup_ratio is 3, expected 0 to 1"),
        (["--clue_dropout", "1"], "--clue_dropout 1 has no effect with --prompt_augmentation off"),
        (["--save_steps", "0"], "--save_steps is 0, expected more than 0; for none, use --save_strategy no"),
        (["--logging_steps", "-2"], "--logging_steps is -2, expected more than 0; for none, use --logging_str"),
        (["--seed", "-1"], "--seed is -1, expected 0 to 4294967295"),
        (["--max_steps", "abc"], "^--max_steps(/--max-steps)?: invalid int value: 'abc'; --help lists the flags$"),
        (["--max_steps", "0", "--num_train_epochs", "0"], "--num_train_epochs and --max_steps are both 0"),
        (["--eval_steps", "5"], "--eval_steps 5 has no effect without --eval_mixture"),
        (["--metric_for_best_model", "BLEU-4"], "--metric_for_best_model BLEU-4 has no effect without --eval_mixture"),
        (["--half_precision_backend", "apex"], "there is no flag --half_precision_backend here; use --bf16"),
        (["--fsdp_config", "missing.json"], "there is no flag --fsdp_config here; split weights with --deepspeed"),
        (["--lr_scheduler_kwargs", "[1]"], r"--lr_scheduler_kwargs is \[1\], expected a JSON object"),
        (["--lora_rank", "8"], r"unknown flag '--lora_rank' .did you mean '--lora_r'?"),
        (["--lr_scheduler_type", "cosin"], "unknown value of --lr_scheduler_type 'cosin' .did you mean 'cosine'?"),
        (
            ["--lr_scheduler_type", "linear", "--lr_scheduler_kwargs", '{"lr_end": 0}'],
            "--lr_scheduler_type linear with",
        ),
        (["--optim", "adamw"], "unknown value of --optim 'adamw' .did you mean 'adamw_8bit'?"),
        (["--mm_tunable_parts", "mm_mlp_adapter", "--tune_single_projector", "False"], "--tune_single_projector both"),
    ],
)
def test_an_invalid_flag_is_an_error(flags, message):
    with pytest.raises(BTCChatError, match=message):
        parse_arguments([*NEEDED, *flags])


def test_each_flag_is_read_somewhere():
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "btcchat" / "train").glob("*.py"))
    unread = [field.name for field in fields(TrainingArguments) if not re.search(rf"\.{field.name}\b", sources)]
    assert [name for name in unread if f'(flags, "{name}"' not in sources] == ["local_rank"]  # see the environment
    assert not MISSING.keys() & {field.name for field in fields(TrainingArguments)}


def test_options_of_the_schedule_are_json(run):
    flags = {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": '{"lr_end": 0.0005}', "warmup_ratio": 0}
    trainer = run(tune_language_model=True, **flags)
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    assert rates == pytest.approx([0.00075, 0.0005])


PUBLISHED = """
    --model_name_or_path CKPT --version v1 --data_mixture geochat_instruct+levir_cc
    --vision_tower google/siglip-so400m-patch14-384 --mm_vision_select_feature cls_patch --mm_projector mlp_downsample
    --tune_vision_tower False --tune_mm_projector False --tune_cc_projector False --tune_single_projector False
    --tune_language_model True --mm_vision_select_layer -2 --mm_use_im_start_end False --mm_use_im_patch_token False
    --image_aspect_ratio pad --chg True --chg_type Chg2Cap --from_origin True --cc_n_layers 0 --cc_head 8
    --cc_dropout 0.1 --bf16 True --output_dir OUT --num_train_epochs 1 --per_device_train_batch_size 4
    --per_device_eval_batch_size 4 --gradient_accumulation_steps 8 --evaluation_strategy no --save_strategy steps
    --save_steps 0.5 --save_total_limit 3 --learning_rate 1e-4 --weight_decay 0. --warmup_ratio 0.03
    --lr_scheduler_type cosine --logging_steps 1 --model_max_length 4096 --dataloader_num_workers 16
    --lazy_preprocess True --vflan_no_system_prompt True --report_to tensorboard --use_cpu True --local_rank=0
"""


def test_the_published_flags_are_accepted_and_those_without_effect_are_reported(caplog):
    model, data, training = parse_arguments(PUBLISHED.split())
    assert (model.vision_tower, model.mm_projector) == ("google/siglip-so400m-patch14-384", "mlp_downsample")
    assert (model.from_origin, model.chg, model.cc_n_layers, model.cc_head) == (True, True, 0, 8)
    assert (training.tune_language_model, training.tune_mm_projector, training.learning_rate) == (True, False, 1e-4)
    assert (training.save_steps, training.gradient_accumulation_steps) == (0.5, 8)
    assert data.image_aspect_ratio == "pad"
    for flag in ("lazy_preprocess", "vflan_no_system_prompt", "per_device_eval_batch_size"):
        assert f"--{flag} has no effect here" in caplog.text


def test_help_names_the_defaults_that_there_are(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Steps between two checkpoints; below 1, a share of all steps. (default: 500)" in shown
    # transformers 5 also spells the flag with hyphens.
    assert re.search(r"--no_dataloader_pin_memory(, [\w-]+)? Set --dataloader_pin_memory to False\. --", shown)
    assert "None" not in shown


def test_help_leaves_out_flags_without_effect(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    shown = capsys.readouterr().out
    assert "--mm_projector_lr" in shown
    assert "--preset" in shown
    for flag in ("--push_to_hub", "--group_by_length", "--per_device_eval_batch_size"):
        assert f"{flag} " not in shown


def start(*flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", str(ROOT / "btcchat" / "train" / "train_mem.py"), *flags]
    return subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": ""})


def test_an_error_is_one_line_and_exit_code_2():
    flags = ("--model_name_or_path", "/nowhere", "--tune_language_model", "True")
    done = start(*NEEDED, "--data_mixture", "levir_cc", *flags)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("btcchat: error: no model at /nowhere")
    assert "Traceback" not in done.stderr


def test_an_output_folder_that_cannot_be_made_is_one_line(data_root, checkpoint, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = start(
        *("--model_name_or_path", str(checkpoint), "--data_mixture", "images", "--data_root", str(data_root)),
        *("--mixture_folder", str(data_root), "--output_dir", str(tmp_path / "file" / "out"), "--use_cpu", "True"),
        *("--tune_language_model", "True", "--dataloader_num_workers", "0", "--max_steps", "1"),
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith(f"btcchat: error: --output_dir {tmp_path}/file/out cannot be written: Not a directory")
    assert message.endswith("; give another --output_dir")
    assert (tmp_path / "file").read_text() == "mine"


def test_an_image_that_cannot_be_read_stops_the_run_with_its_row(data_root, checkpoint, tmp_path):
    import shutil

    root = shutil.copytree(data_root, tmp_path / "data")
    (root / "green.png").write_bytes(b"no image")
    done = start(
        *("--model_name_or_path", str(checkpoint), "--data_mixture", "images", "--data_root", str(root)),
        *("--mixture_folder", str(root), "--output_dir", str(tmp_path / "out"), "--use_cpu", "True"),
        *("--tune_language_model", "True", "--dataloader_num_workers", "1", "--max_steps", "9"),
    )
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("btcchat: error: images.jsonl row 2: ")
    assert "green.png" in last


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (2, "{out} has no checkpoint yet. Run the same command again to start over"),
        (4, "run the same command with --resume True to continue from {out}/checkpoint-2"),
    ],
)
def test_ctrl_c_in_a_step_says_how_to_continue(step, words, data_root, checkpoint, tmp_path, monkeypatch, capsys):
    from btcchat.train.train_mem import main
    from btcchat.train.trainer import Trainer

    steps, out, do = [], tmp_path / "out", Trainer._step

    def interrupted(self, batches):
        steps.append(1)
        if len(steps) == step:
            raise KeyboardInterrupt
        do(self, batches)

    flags = [
        *("--model_name_or_path", str(checkpoint), "--data_mixture", "images", "--data_root", str(data_root)),
        *("--mixture_folder", str(data_root), "--output_dir", str(out), "--use_cpu", "True", "--max_steps", "9"),
        *("--tune_language_model", "True", "--dataloader_num_workers", "0", "--save_steps", "2"),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", interrupted)
        assert main(flags) == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"btcchat: interrupted; {words.format(out=out)}"
    again = flags if step == 2 else [*flags, "--resume", "True"]
    assert main(again) == 0 and (out / "config.json").is_file()
