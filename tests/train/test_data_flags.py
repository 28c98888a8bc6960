"""Training on streams, under a token budget, and with samples that cannot be read."""

import io
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from btcchat.errors import BTCChatError
from btcchat.prompt import IMAGE_TOKEN_INDEX
from tests.train.test_train import losses

ROOT = Path(__file__).resolve().parents[2]
TUNE = {"tune_language_model": True}


@pytest.fixture
def broken(data_root, tmp_path):
    """The data root with one image of four (and so seven pairs of sixteen) that cannot be read."""
    root = shutil.copytree(data_root, tmp_path / "broken")
    (root / "green.png").write_bytes(b"no image")
    return {"data_root": root, "mixture_folder": root}


def test_an_unreadable_image_stops_the_run_by_default(run, broken):
    with pytest.raises(BTCChatError, match=r"images.jsonl row 2: .*green.png.* is not an image"):
        run("images", **broken, **TUNE)


def test_a_missing_image_stops_the_run_before_its_first_step(run, broken, tmp_path):
    (broken["data_root"] / "green.png").unlink()
    with pytest.raises(BTCChatError, match=r"^images.jsonl row 2: image '.*green.png' not found"):
        run("texts*9+images", **broken, **TUNE, max_steps=1)
    assert not (tmp_path / "out" / "training.json").exists()
    assert run("images", **broken, **TUNE, bad_samples="skip", max_steps=1).state.global_step == 1


def test_a_run_continues_without_its_bad_samples_and_lists_them(run, broken, caplog):
    with caplog.at_level(logging.WARNING):
        trainer = run("images+pairs", **broken, **TUNE, bad_samples="skip", max_steps=-1, num_train_epochs=2)
    assert trainer.state.global_step == 10
    assert len(trainer.faults) == 2 * 8
    assert caplog.messages[-9] == "samples left out (--bad_samples skip), repeats included: 16"
    assert sum(message.startswith("  ") for message in caplog.messages) == 8
    assert any("images.jsonl row 2: " in message for message in caplog.messages[-8:])


def test_a_resumed_run_lists_what_was_left_out_before(run, broken, caplog):
    flags = broken | TUNE | {"bad_samples": "skip", "save_strategy": "steps", "save_steps": 6}
    flags |= {"max_steps": -1, "num_train_epochs": 2}
    whole = run("images+pairs", **flags)
    shutil.rmtree(Path(whole.args.output_dir, "checkpoint-10"), ignore_errors=True)
    with caplog.at_level(logging.WARNING):
        resumed = run("images+pairs", **flags, resume=True)
    assert sorted(resumed.faults) == sorted(whole.faults) and len(whole.faults) == 16
    assert "samples left out (--bad_samples skip), repeats included: 16" in caplog.messages


def test_a_batch_without_a_good_sample_changes_nothing(run, broken):
    flags = {"per_device_train_batch_size": 1, "bad_samples": "skip", "max_steps": 4, "lr_scheduler_type": "constant"}
    trainer = run("images", **broken, **TUNE, **flags)
    assert len(trainer.faults) == 1
    assert sorted(losses(trainer))[0] == 0 < sorted(losses(trainer))[1]


def test_a_truncated_sample_is_reported(run, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        whole = run("texts", **TUNE, max_steps=1, output_dir=tmp_path / "whole")
        length = len(whole.train_dataset[0]["input_ids"])
        trainer = run("texts", **TUNE, max_steps=1, model_max_length=length - 2)
    assert (whole.cut, len(trainer.cut)) == ([], 1)
    expected = "samples cut to the length the model reads, repeats included: 1, e.g. texts.jsonl row 1, 2 tokens"
    assert caplog.messages[-1].startswith(expected)


def test_a_token_budget_makes_more_and_smaller_batches_of_videos(run):
    budget = {"max_tokens_per_batch": 400, "per_device_train_batch_size": 16, "max_steps": -1, "num_train_epochs": 2}
    trainer = run("images+videos", **TUNE, **budget)
    batches = list(trainer.get_train_dataloader())
    assert trainer.state.global_step == 2 * len(batches)
    tokens = trainer.model.layout.image_tokens
    lengths = [
        (batch["input_ids"] == IMAGE_TOKEN_INDEX).sum(1) * (tokens - 1) + batch["attention_mask"].sum(1)
        for batch in batches
    ]
    assert sum(map(len, lengths)) == 8 and max(map(len, lengths)) < 8
    assert max(int(each.max()) * len(each) for each in lengths) <= 1.1 * 400  # text is estimated
    with pytest.raises(BTCChatError, match="a batch may only have 9; raise --max_tokens_per_batch"):
        run("images", **TUNE, max_tokens_per_batch=9, output_dir=f"{trainer.args.output_dir}2")


# Streams -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stream(data_root, tmp_path):
    """The images of the data root in two tar shards, as the set "stream"."""
    root = shutil.copytree(data_root, tmp_path / "stream")
    rows = [json.loads(line) for line in (root / "images.jsonl").read_text().splitlines()]
    for number in range(2):
        with tarfile.open(root / f"{number}.tar", "w") as tar:
            for row in rows[number::2]:
                name = row["image"].removesuffix(".png")
                for file, data in ((f"{name}.json", json.dumps(row).encode()), (row["image"], picture(name))):
                    info = tarfile.TarInfo(file)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    (root / "stream.yaml").write_text("stream: {annotation: '*.tar', images: nowhere}")
    return {"data_root": root, "mixture_folder": root}


def picture(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(buffer, "png")
    return buffer.getvalue()


def test_a_stream_is_trained_on_and_resumed(run, stream, tmp_path):
    flags = {**stream, **TUNE, "max_steps": 6, "save_strategy": "steps", "save_steps": 3, "learning_rate": 1e-2}
    whole = run("stream+pairs@first:4", **flags, output_dir=tmp_path / "whole")
    assert len(losses(whole)) == 6
    tar, pairs = json.loads((tmp_path / "whole" / "training.json").read_text())["data"]
    assert (tar["set"], tar["shards"], tar["files"]) == ("stream", 2, 2)
    assert (pairs["set"], pairs["records"], len(pairs["sha256"])) == ("pairs@first:4", 4, 64)
    shutil.copytree(tmp_path / "whole" / "checkpoint-3", tmp_path / "cut" / "checkpoint-3")
    resumed = run("stream+pairs@first:4", **flags, output_dir=tmp_path / "cut", resume=True)
    assert losses(resumed) == losses(whole)


def test_a_stream_needs_a_number_of_steps(run, stream):
    with pytest.raises(BTCChatError, match="give --max_steps"):
        run("stream", **stream, **TUNE, max_steps=-1)


@pytest.mark.slow
def test_two_processes_do_not_wait_for_each_others_bad_samples(broken, checkpoint, tmp_path):
    """Four images in batches of one: in each epoch one of the two processes has a step without a good sample."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    command += [str(ROOT / "btcchat" / "train" / "train_mem.py"), "--model_name_or_path", str(checkpoint)]
    flags = {"data_mixture": "images", **broken, "output_dir": tmp_path / "out", **TUNE, "bad_samples": "skip"}
    flags |= {"per_device_train_batch_size": 1, "num_train_epochs": 3, "use_cpu": True, "save_strategy": "no"}
    command += [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "samples left out (--bad_samples skip), repeats included: 3\n  images.jsonl row 2" in done.stderr
