"""An output folder belongs to one run at a time, and nothing in it that btcchat did not write is replaced."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from btcchat.errors import BTCChatError
from btcchat.outputs.lock import Lock
from btcchat.train import train as training
from btcchat.train.trainer import Hook, Trainer

FULL = {"tune_language_model": True, "save_strategy": "steps", "save_steps": 1}


def files(folder) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        *("llm/notes.txt", "vision_tower/model.safetensors", "mm_projector/a", "config.json", "training.json"),
        *("checkpoint-3/trainer_state.json", "tmp-checkpoint-1/a", "best/a", "evaluations/a", "trainer_state.json"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_another_program_wrote_is_neither_deleted_nor_replaced(run, tmp_path, name, overwrite):
    foreign = tmp_path / "out" / name
    foreign.parent.mkdir(parents=True)
    foreign.write_text('{"global_step": 3}')
    before = files(tmp_path)
    with pytest.raises(BTCChatError, match="already exists, and .*btcchat .*; give another "):
        run(**FULL, overwrite_output_dir=overwrite, resume=not overwrite)
    assert files(tmp_path) == before


def test_files_that_no_run_writes_are_kept(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    run(**FULL)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert not list((tmp_path / "out").glob(".*"))  # no lock is left


def test_a_second_run_in_the_same_folder_is_refused_and_changes_nothing(run, tmp_path):
    run(**FULL)
    (tmp_path / "out" / "tmp-checkpoint-3").mkdir()  # another run is writing it
    before = files(tmp_path)
    with Lock(tmp_path / "out" / ".training.lock", "it"):
        for flags in ({"resume": True}, {"overwrite_output_dir": True}, {}):
            with pytest.raises(BTCChatError, match=f"--output_dir .*out is being written by process {os.getpid()} on "):
                run(**FULL, **flags)
    assert files(tmp_path) == before and (tmp_path / "out" / "tmp-checkpoint-3").exists()


def test_a_folder_made_for_a_run_that_cannot_start_is_removed(run, tmp_path):
    with pytest.raises(BTCChatError):
        run(**FULL, output_dir=tmp_path / "new" / "out", model_name_or_path=tmp_path / "none")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("again", [False, True])
def test_an_output_folder_that_is_deleted_is_noticed(run, tmp_path, monkeypatch, again):
    class Deletes(Hook):
        def after_step(self, trainer):
            if trainer.state.global_step == 2:
                shutil.rmtree(trainer.output_dir)
                if again:
                    trainer.output_dir.mkdir()

    train = training._train
    monkeypatch.setattr(training, "_train", lambda args, hooks: train(args, [Deletes(), *hooks]))
    with pytest.raises(BTCChatError, match="--output_dir .*out was deleted or replaced during the run, at step 2; "):
        run(**FULL, max_steps=4)
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("flags", [{"save_steps": 2}, {"save_steps": 1}, {"save_strategy": "no", "logging_steps": 50}])
def test_a_diverged_run_keeps_no_weights_that_are_not_finite(run, tmp_path, flags):
    diverge = {"learning_rate": 1e38, "max_grad_norm": 0, "max_steps": 6, "lr_scheduler_type": "constant"}
    with pytest.raises(BTCChatError) as error:
        run(**FULL | diverge | flags)
    message = str(error.value)
    assert "the training has diverged; start it again with a lower --learning_rate or --max_grad_norm" in message
    assert "resume" not in message and len(message) <= 300
    kept = list((tmp_path / "out").glob("*checkpoint-*/config.json"))
    assert not kept or flags == {"save_steps": 1}
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_loss_that_is_nan_before_anything_is_learned_is_not_called_a_divergence(run, monkeypatch):
    loss = Trainer._loss
    monkeypatch.setattr(Trainer, "_loss", lambda self, batch: loss(self, batch) * float("nan"))
    with pytest.raises(BTCChatError) as error:
        run(**FULL | {"save_strategy": "no", "max_steps": 4, "logging_steps": 50})
    assert str(error.value).startswith("the loss is nan at step 1: a part of the model computes it before anything is")


def test_a_run_that_is_killed_leaves_a_lock_that_the_next_one_takes_over(data_root, checkpoint, tmp_path, run):
    (tmp_path / "out").mkdir()
    hold = "import os, sys; from pathlib import Path; from btcchat.outputs.lock import Lock\n"
    hold += "lock = Lock(Path(sys.argv[1]), 'it'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", hold, str(tmp_path / "out" / ".training.lock")], check=False)
    assert json.loads((tmp_path / "out" / ".training.lock").read_text())["pid"] > 0
    run(tune_language_model=True, max_steps=1)
    assert not (tmp_path / "out" / ".training.lock").exists()
