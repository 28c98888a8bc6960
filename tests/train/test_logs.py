"""Records of a run: log lines, tensorboard and wandb, training.json."""

import hashlib
import importlib.machinery
import json
import math
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from accelerate.utils import LoggerType

from btcchat.errors import BTCChatError

LLM = {"tune_language_model": True}


def lines(trainer) -> list[dict]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def test_a_log_line_has_loss_gradient_rate_speed_and_memory(run):
    entry = lines(run(**LLM))[0]
    assert set(entry) == {
        *("step", "epoch", "loss", "grad_norm", "learning_rate"),
        *("samples_per_second", "supervised_tokens_per_second", "peak_memory_gb"),
    }
    assert entry["supervised_tokens_per_second"] > entry["samples_per_second"] > 0
    assert 0.05 < entry["peak_memory_gb"] < 100


def test_a_log_line_is_the_mean_since_the_last_one(run, tmp_path):
    each = lines(run(**LLM, max_steps=4, gradient_accumulation_steps=2, output_dir=tmp_path / "1"))
    two = lines(run(**LLM, max_steps=4, gradient_accumulation_steps=2, logging_steps=2, output_dir=tmp_path / "2"))
    means = [(each[i]["loss"] + each[i + 1]["loss"]) / 2 for i in (0, 2)]
    assert [entry["loss"] for entry in two] == pytest.approx(means, abs=2e-6)


def test_supervised_tokens_are_those_of_the_answers(run):
    trainer = run("pairs*3", **LLM, max_steps=3, logging_steps=3)
    loader = iter(trainer.get_train_dataloader())
    tokens = sum(int((next(loader)["labels"] >= 0).sum()) for _ in range(3))
    entry = lines(trainer)[-1]
    ratio = entry["supervised_tokens_per_second"] / entry["samples_per_second"]
    assert ratio == pytest.approx(tokens / 12, rel=0.05)  # both are rounded


def test_the_gradient_norm_is_the_one_before_clipping(run, tmp_path):
    norms = [
        lines(run(**LLM, max_grad_norm=most, output_dir=tmp_path / str(most)))[0]["grad_norm"] for most in (0, 1e-3)
    ]
    assert norms[0] == norms[1] > 1e-3


def test_logs_go_to_tensorboard(run, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = run(**LLM, report_to="tensorboard", logging_dir=tmp_path / "logs")
    events = EventAccumulator(str(tmp_path / "logs" / "btcchat"))
    events.Reload()
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(
        [entry["loss"] for entry in lines(trainer)]
    )
    assert {"train/grad_norm", "train/supervised_tokens_per_second"} <= set(events.Tags()["scalars"])


def test_logs_go_to_wandb(run, monkeypatch):
    wandb = MagicMock(run=None)
    wandb.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr("accelerate.tracking._available_trackers", [LoggerType.WANDB])  # it looks for the real package
    trainer = run(**LLM, report_to="wandb", run_name="mine")
    assert wandb.init.call_args.kwargs["name"] == "mine"
    logged = wandb.config.update.call_args.args[0]
    assert logged["learning_rate"] == 1e-3
    assert "mlp_downsample" in logged["mm_projector"]
    lines_of_it = [call.args[0] for call in wandb.init.return_value.log.call_args_list]
    logged = [line["train/loss"] for line in lines_of_it if "train/loss" in line]
    assert logged == [entry["loss"] for entry in lines(trainer)]


def test_a_missing_reporting_package_is_an_error(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BTCChatError, match="--report_to wandb needs the package wandb: pip install wandb"):
        run(**LLM, report_to="wandb")
    with pytest.raises(BTCChatError, match="unknown value of --report_to 'wandbb'"):
        run(**LLM, report_to="wandbb")


def test_training_json_records_how_the_run_was_started(run, data_root, tmp_path):
    run("pairs*2+images", **LLM, learning_rate=2e-3, save_strategy="steps", save_steps=1)
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["flags"]["learning_rate"] == 2e-3
    assert record["flags"]["data_mixture"] == "pairs*2+images"
    assert record["flags"]["tune_language_model"] is True
    assert record["model"]["change_encoder"]["change_encoder_type"] == "attentive"
    assert [part["name"] for part in record["parts"] if part["trainable"]] == ["llm"]
    assert [(set_["records"], set_["repeats"]) for set_ in record["data"]] == [(16, 2), (4, 1)]
    assert record["data"][0]["sha256"] == hashlib.sha256((data_root / "pairs.json").read_bytes()).hexdigest()
    assert record["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]  # PyPI's lacks +cu130
    assert record["starts"][0]["command"] == sys.argv
    assert record["flags"]["max_tokens_per_batch"] is None
    assert not [flag for flag in record["flags"] if flag.endswith("token")]
    for checkpoint in ("checkpoint-1", "checkpoint-2"):
        assert json.loads((tmp_path / "out" / checkpoint / "training.json").read_text()) == record


def test_a_gradient_norm_that_deepspeed_does_not_compute_is_logged_as_nan(run):
    """It computes none in float32 without ZeRO, or with compute_grad_norm false."""
    trainer = run(**LLM, max_steps=1)
    trainer.args.deepspeed = {"zero_optimization": {"stage": 0}}
    trainer.wrapped = SimpleNamespace(get_global_grad_norm=lambda: None)
    trainer._clip()
    trainer._log_steps()
    assert math.isnan(trainer.state.log_history[-1]["grad_norm"])
