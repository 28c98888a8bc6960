"""A run that is stopped anywhere and resumed gives the same result as one that was never stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from btcchat.api import BTCChat
from btcchat.errors import BTCChatError
from btcchat.train.checkpoints import checkpoints, fault
from btcchat.train.resume import Resumable
from tests.train.runs import complete_checkpoints

ALL = "images+pairs+series+videos+texts"
FULL = {"tune_language_model": True, "tune_mm_projector": True, "cc_dropout": 0.3, "save_strategy": "steps"}
ELEVEN = FULL | {"save_steps": 2, "max_steps": 11, "gradient_accumulation_steps": 2, "max_grad_norm": 0.5}
TIMED = ("samples_per_second", "supervised_tokens_per_second", "peak_memory_gb", "train_runtime")


def curve(trainer) -> list[dict]:
    """Every log line, without what depends on the clock."""
    return [{k: v for k, v in entry.items() if k not in TIMED} for entry in trainer.state.log_history]


def same_weights(one: Path, other: Path) -> bool:
    one, other = (
        BTCChat.from_pretrained(path, dtype=torch.float32, device="cpu").state_dict() for path in (one, other)
    )
    return all(torch.equal(other[key], value) for key, value in one.items())


@pytest.fixture
def whole(run, tmp_path):
    return lambda **flags: run(ALL, **ELEVEN | flags, output_dir=tmp_path / "whole", save_total_limit=9)


@pytest.mark.parametrize("last", [4, 6])  # 4 steps an epoch: between two epochs, and inside the second
@pytest.mark.parametrize("logging_steps", [1, 3])  # 3: a log line spans the checkpoint
def test_a_resumed_run_equals_the_uninterrupted_one(run, whole, tmp_path, last, logging_steps):
    first = whole(logging_steps=logging_steps, mm_projector_lr=3e-4)
    assert first.state.epoch == pytest.approx(11 / 4)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for checkpoint in complete_checkpoints(tmp_path / "cut"):
        if int(checkpoint.name.removeprefix("checkpoint-")) > last:
            shutil.rmtree(checkpoint)
    (tmp_path / "cut" / "config.json").unlink()
    flags = ELEVEN | {"logging_steps": logging_steps, "mm_projector_lr": 3e-4}
    resumed = run(ALL, **flags, output_dir=tmp_path / "cut", resume=True)
    assert len(curve(first)) == 11 // logging_steps + 1  # the last one sums up the run
    assert curve(resumed) == curve(first)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("when", "left"),
    [
        ("step:11", "checkpoint-4"),  # in the sixth step, of two batches each
        ("write:3", "checkpoint-4"),  # while checkpoint-6 is written
        ("delete:1", "checkpoint-6"),  # while checkpoint-2 is deleted
    ],
)
def test_a_killed_run_continues_as_if_it_had_not_been(run, whole, data_root, checkpoint, tmp_path, when, left):
    first = whole()
    flags = ELEVEN | {"model_name_or_path": checkpoint, "data_mixture": ALL, "output_dir": tmp_path / "cut"}
    flags |= {"data_root": data_root, "mixture_folder": data_root, "num_video_frames": 3, "use_cpu": True}
    flags |= {"per_device_train_batch_size": 4, "learning_rate": 1e-3, "logging_steps": 1, "dataloader_num_workers": 0}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("killed.py")), when, *words]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert complete_checkpoints(tmp_path / "cut")[-1].name == left
    assert not (tmp_path / "cut" / "config.json").exists()
    resumed = run(ALL, **ELEVEN, output_dir=tmp_path / "cut", resume=True)
    assert curve(resumed) == curve(first)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    assert not [path for path in (tmp_path / "cut").iterdir() if "tmp-" in path.name]
    assert len(complete_checkpoints(tmp_path / "cut")) == 2  # save_total_limit


def test_a_half_written_checkpoint_is_never_resumed(run, tmp_path):
    run(**FULL, save_steps=1, output_dir=tmp_path / "out")
    last = tmp_path / "out" / "checkpoint-2"
    (last / "trainer_state.json").unlink()  # it is written last
    (tmp_path / "out" / "tmp-checkpoint-3").mkdir()
    assert [path.name for path in complete_checkpoints(tmp_path / "out")] == ["checkpoint-1"]
    with pytest.raises(BTCChatError, match="checkpoint-2 is not a complete checkpoint"):
        run(**FULL, output_dir=tmp_path / "out", resume_from_checkpoint=last)
    trainer = run(**FULL, save_steps=1, output_dir=tmp_path / "out", resume=True)
    assert trainer.state.global_step == 2
    assert [path.name for path in complete_checkpoints(tmp_path / "out")] == ["checkpoint-1", "checkpoint-2"]
    assert not (tmp_path / "out" / "tmp-checkpoint-3").exists()


def test_a_finished_run_that_is_resumed_takes_no_further_step(run, tmp_path):
    run(**FULL, save_steps=2, max_steps=2)
    shutil.copytree(tmp_path / "out", tmp_path / "before")
    again = run(**FULL, save_steps=2, max_steps=2, resume=True)
    assert again.state.global_step == 2
    assert same_weights(tmp_path / "before", tmp_path / "out")


def test_later_checkpoints_than_the_one_chosen_are_not_mixed_with_it(run, tmp_path):
    run(**FULL, save_steps=1)
    flags = FULL | {"save_steps": 1, "resume_from_checkpoint": tmp_path / "out" / "checkpoint-1"}
    with pytest.raises(BTCChatError, match="holds checkpoint-2 of an earlier run"):
        run(**flags)
    assert run(**flags, overwrite_output_dir=True).state.global_step == 2


def test_an_earlier_run_is_not_overwritten_without_the_flag(run, tmp_path):
    run(**FULL, save_steps=2)
    with pytest.raises(BTCChatError, match="holds checkpoint-2 of an earlier run; continue it with --resume True"):
        run(**FULL, save_steps=2)
    run(**FULL, save_steps=1, max_steps=1, overwrite_output_dir=True)
    assert [path.name for path in complete_checkpoints(tmp_path / "out")] == ["checkpoint-1"]


def test_a_run_without_a_checkpoint_to_resume_starts_from_the_beginning(run):
    assert run(tune_language_model=True, resume=True).state.global_step == 2


@pytest.mark.parametrize("resume", [False, True])
def test_a_finished_model_is_not_replaced_without_the_flag(run, tmp_path, resume):
    run(tune_language_model=True)
    shutil.copytree(tmp_path / "out", tmp_path / "before")
    with pytest.raises(BTCChatError, match="out holds a finished model and no checkpoint to resume; give another"):
        run(tune_language_model=True, resume=resume)
    assert same_weights(tmp_path / "before", tmp_path / "out")
    run(tune_mm_projector=True, resume=resume, overwrite_output_dir=True)
    assert not same_weights(tmp_path / "before", tmp_path / "out")


def test_a_mistake_in_the_flags_deletes_no_checkpoint(run, tmp_path):
    run(**FULL, save_steps=1)
    for wrong in ({"mixture": "pears"}, {"model_name_or_path": tmp_path / "none"}, {"cc_head": 3}):
        with pytest.raises(BTCChatError):
            run(**FULL | {"save_steps": 1, "overwrite_output_dir": True} | wrong)
    assert [path.name for path in complete_checkpoints(tmp_path / "out")] == ["checkpoint-1", "checkpoint-2"]


@pytest.mark.parametrize("limit", [0, -1])
def test_without_a_limit_all_checkpoints_are_kept(run, tmp_path, limit):
    run(**FULL, save_steps=1, max_steps=3, save_total_limit=limit)
    assert len(complete_checkpoints(tmp_path / "out")) == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"chg_type": "concat"}, "--chg_type is concat, but the run to resume has attentive; a resumed run keeps its "),
        ({"cc_n_layers": 3}, "cc_n_layers is 3, but the run to resume has "),
    ],
)
def test_a_resumed_run_does_not_take_another_change_encoder(run, flags, message):
    run(**FULL, save_steps=1)
    with pytest.raises(BTCChatError, match=message):
        run(**FULL, save_steps=1, max_steps=3, resume=True, fresh_change_encoder=True, **flags)


def test_a_resumed_run_warns_about_different_flags(run, tmp_path, caplog):
    run(**FULL, save_steps=1)
    run(**FULL, save_steps=1, max_steps=3, resume=True, learning_rate=2e-3)
    assert "resumed with --learning_rate 0.002; it was 0.001 until the checkpoint" in caplog.text
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert [start["resumed_from"] and Path(start["resumed_from"]).name for start in record["starts"]] == [
        None,
        "checkpoint-2",
    ]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


FILES = [
    *("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "trainer_state.json", "meter.json", "training.json"),
    *("config.json", "llm/config.json", "llm/model.safetensors", "mm_projector/model.safetensors"),
    *("vision_tower/model.safetensors", "vision_tower/config.json"),
]


@pytest.fixture(scope="module")
def three(request, tmp_path_factory, data_root, checkpoint):
    """The folder of a run with three checkpoints."""
    from btcchat.train.flags import parse_arguments
    from btcchat.train.train import train

    folder = tmp_path_factory.mktemp("three") / "out"
    flags = {"model_name_or_path": checkpoint, "data_mixture": "pairs", "data_root": data_root, "output_dir": folder}
    flags |= {"mixture_folder": data_root, "max_steps": 3, "save_steps": 1, "save_strategy": "steps", "use_cpu": True}
    flags |= {"dataloader_num_workers": 0, "disable_tqdm": True, "tune_language_model": True, "num_video_frames": 3}
    flags |= {"save_total_limit": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "logging_steps": 1}
    train(*parse_arguments([word for name, value in flags.items() for word in (f"--{name}", str(value))]))
    return folder


@pytest.mark.parametrize("damage", [cut, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_with_a_file_cut_short_or_missing_is_not_complete(three, tmp_path, name, damage):
    shutil.copytree(three / "checkpoint-3", tmp_path / "checkpoint-3")
    assert fault(tmp_path / "checkpoint-3") is None
    damage(tmp_path / "checkpoint-3" / name)
    reason = fault(tmp_path / "checkpoint-3")
    assert reason.startswith(Path(name).parent.name) and "\n" not in reason
    assert Path(name).stem in reason or "weights" in reason


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("trainer_state.json", {"global_step": "3"}, "global_step is '3', expected a whole number"),
        ("trainer_state.json", {"global_step": -1}, "global_step is -1, expected at least 0"),
        ("trainer_state.json", {"log_history": [5]}, "log_history[0] is 5, expected a JSON object"),
        ("meter.json", {"total": []}, "total is [], expected a JSON object"),
        ("meter.json", {"window": {}}, "has no 'loss' in window"),
        ("training.json", {"machine": {"processes": "2"}}, "has no 'system' in machine"),
        ("training.json", {"starts": 1}, "starts is 1, expected a list"),
        ("training.json", {"versions": {"torch": 2}}, "versions is 2, expected a string"),
    ],
)
def test_a_checkpoint_with_a_value_of_another_type_is_not_complete(three, tmp_path, name, change, words):
    shutil.copytree(three / "checkpoint-3", tmp_path / "checkpoint-3")
    file = tmp_path / "checkpoint-3" / name
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    reason = fault(tmp_path / "checkpoint-3")
    assert reason is not None and words in reason and reason.startswith(name)


def test_a_folder_with_only_the_name_of_a_checkpoint_is_not_one(tmp_path):
    for name in ("checkpoint-10", "checkpoint-9", "checkpoint-", "checkpoint-2b", "checkpoint-²", "tmp-checkpoint-3"):
        (tmp_path / name).mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-9", "checkpoint-10"]


def test_the_newest_complete_checkpoint_is_resumed_and_the_others_are_named(run, three, tmp_path, caplog):
    shutil.copytree(three, tmp_path / "out")
    cut(tmp_path / "out" / "checkpoint-3" / "optimizer.pt")
    (tmp_path / "out" / "checkpoint-2" / "rng_state_0.pth").unlink()
    with caplog.at_level("INFO", "btcchat"):
        trainer = run(tune_language_model=True, max_steps=4, resume=True)
    assert trainer.state.global_step == 4
    assert "checkpoint-3 is not complete (optimizer.pt cannot be read" in caplog.text
    assert "checkpoint-2 is not complete (rng_state_0.pth is missing), so an earlier" in caplog.text
    assert f"resuming from {tmp_path}/out/checkpoint-1" in caplog.text


def test_without_a_complete_checkpoint_a_run_is_not_resumed(run, three, tmp_path):
    shutil.copytree(three, tmp_path / "out")
    for number in (1, 2, 3):
        cut(tmp_path / "out" / f"checkpoint-{number}" / "scheduler.pt")
    with pytest.raises(BTCChatError) as error:
        run(**FULL, save_steps=9, resume=True)
    assert "checkpoint-3 is not complete (scheduler.pt cannot be read" in str(error.value)
    assert str(error.value).endswith("and no earlier one is; start again with --overwrite_output_dir True")


def test_the_state_of_another_optimizer_is_an_error_with_a_way_out(tmp_path):
    one, two = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    torch.save(torch.optim.SGD([{"params": [one, two]}]).state_dict(), tmp_path / "optimizer.pt")
    accelerator = SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=None))
    resumable = Resumable(accelerator, None, torch.optim.SGD([{"params": [one]}, {"params": [two]}]), None)
    with pytest.raises(BTCChatError, match="optimizer.pt does not fit .*--model_name_or_path .*"):
        resumable.load(tmp_path)
