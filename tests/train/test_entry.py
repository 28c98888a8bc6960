"""The entry script: flags, and errors as one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from btcchat.errors import BTCChatError
from btcchat.train.arguments import parse_arguments

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ["--model_name_or_path", "m", "--data_mixture", "a", "--output_dir", "o", "--use_cpu", "True"]


def test_false_is_false():
    training = parse_arguments([*NEEDED, "--tune_language_model", "False", "--tune_cc_projector", "False"])[2]
    assert training.tune_language_model is False
    assert training.tune_cc_projector is False
    assert training.tune_single_projector is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tune_vision_towr", "1"], r"unknown flag '--tune_vision_towr' \(did you mean '--tune_vision_tower'\?\)"),
        (["--tune_language", "True"], "unknown flag '--tune_language'"),  # no abbreviations
        (["--group_by_length", "True"], "--group_by_length True has no effect here"),
        (["--evaluation_strategy", "steps"], "--evaluation_strategy steps has no effect here"),
        (["--bf16", "True", "--fp16", "True"], "At most one of fp16 and bf16"),
        (["--label_smoothing_factor", "0.1"], "--label_smoothing_factor 0.1 has no effect here"),
        (["--cc_dropout", "1.5"], "--cc_dropout is 1.5, expected 0 to 1"),
        (["--cc_head", "0"], "--cc_head is 0, expected 1 or more"),
        (["--num_video_frames", "0"], "--num_video_frames is 0, expected 1 or more"),
    ],
)
def test_a_flag_that_cannot_be_meant_is_an_error(flags, message):
    with pytest.raises(BTCChatError, match=message):
        parse_arguments([*NEEDED, *flags])


def start(*flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", str(ROOT / "btcchat" / "train" / "train_mem.py"), *flags]
    return subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": ""})


def test_an_error_is_one_line_and_exit_code_2():
    done = start("--model_name_or_path", "/nowhere", *NEEDED[2:], "--tune_language_model", "True")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("btcchat: error: no model at /nowhere")
    assert "Traceback" not in done.stderr


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
