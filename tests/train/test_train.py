"""Whole runs on a random model of a few thousand weights."""

import importlib.util
from types import SimpleNamespace

import pytest
import torch

from btcchat.api import BTCChat
from btcchat.errors import BTCChatError
from btcchat.train import train as train_module
from btcchat.train.training_arguments import TrainingArguments

ALL = "images+pairs+series+videos+texts"
PARTS = ("vision_tower", "change_encoder", "mm_projector", "llm")

# flags -> parts that are trained
STAGES = {
    "align": ({"tune_single_projector": True}, {"mm_projector"}),
    "change encoder": ({"tune_cc_projector": True}, {"change_encoder"}),
    "whole projector": ({"tune_mm_projector": True}, {"change_encoder", "mm_projector"}),
    "refined": ({"tune_mm_projector": True, "tune_cc_projector": False}, {"mm_projector"}),
    "language model": ({"tune_language_model": True}, {"llm"}),
    "everything": ({"tune_vision_tower": True, "tune_mm_projector": True, "tune_language_model": True}, set(PARTS)),
}


def losses(trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def state(path) -> dict[str, torch.Tensor]:
    return BTCChat.from_pretrained(path, dtype=torch.float32, device="cpu").state_dict()


@pytest.mark.parametrize("stage", STAGES)
def test_only_the_tuned_parts_change(run, checkpoint, stage):
    flags, trained = STAGES[stage]
    trainer = run("pairs+images", **flags, mm_projector="mlp_downsample", vision_tower=checkpoint / "vision_tower")
    assert {part for part in PARTS if getattr(trainer.model, part).training} == trained  # the others are in eval()
    before, after = state(checkpoint), state(trainer.args.output_dir)
    still = {key for key, value in after.items() if torch.equal(value, before[key])}
    moved = set(after) - still
    assert {key.partition(".")[0] for key in moved} == trained
    # Everything of a tuned part moves, BatchNorm statistics included; the tower's last norm is built and not used.
    assert not {key for key in still if key.partition(".")[0] in trained and "post_layernorm" not in key}
    statistics = {key for key in after if "running_" in key or "num_batches_tracked" in key}
    assert statistics
    assert statistics <= (moved if "change_encoder" in trained else still)


def test_what_is_trained_is_printed_before_the_first_step(run, capsys):
    trainer = run(tune_cc_projector=True, tune_language_model=True)
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()[:6] if line}
    count = {part: sum(p.numel() for p in getattr(trainer.model, part).parameters()) for part in PARTS}
    assert rows["module"] == ["parameters", "trainable", "lr"]
    assert rows["llm"] == [f"{count['llm']:,}", "yes", "0.001"]
    assert rows["vision_tower"] == [f"{count['vision_tower']:,}", "no", "-"]
    assert rows["all"] == [f"{sum(count.values()):,}", f"{count['llm'] + count['change_encoder']:,}"]


def test_nothing_to_train_is_an_error(run, monkeypatch):
    monkeypatch.setattr("btcchat.train.train.load_model", lambda *_: pytest.fail("the model was loaded first"))
    with pytest.raises(BTCChatError, match="nothing to train: every tune_"):
        run()
    with pytest.raises(BTCChatError, match="nothing to train: every tune_"):
        run(tune_mm_projector=True, tune_cc_projector=False, tune_single_projector=False)


def test_a_learning_rate_of_a_frozen_part_is_an_error_before_the_model_is_loaded(run, monkeypatch):
    monkeypatch.setattr("btcchat.train.train.load_model", lambda *_: pytest.fail("the model was loaded first"))
    with pytest.raises(BTCChatError, match="--mm_vision_tower_lr is 0.5, but vision_tower is frozen"):
        run(tune_language_model=True, mm_vision_tower_lr=0.5)


def test_a_change_encoder_without_parameters_alone_is_nothing_to_train(run, tmp_path):
    from tests.tiny import tiny_model

    tiny_model(tmp_path, change_encoder=None).save_pretrained(tmp_path / "concat")
    with pytest.raises(BTCChatError, match=r"change_encoder \(--tune_cc_projector\) has no parameters"):
        run(model_name_or_path=tmp_path / "concat", tune_cc_projector=True)


def test_an_original_checkpoint_gets_the_change_encoder_of_the_flags(run, tmp_path, caplog):
    from tests.tiny import tiny_model

    tiny_model(tmp_path, change_encoder=None).save_pretrained(tmp_path / "origin")
    flags = {"model_name_or_path": tmp_path / "origin", "from_origin": True, "chg_type": "Chg2Cap"}
    flags |= {"cc_n_layers": 1, "cc_head": 4, "cc_dropout": 0.1, "tune_cc_projector": True}
    run(**flags | {"tune_cc_projector": False, "tune_language_model": True}, output_dir=tmp_path / "frozen")
    assert "the change encoder is fresh and frozen" in caplog.text
    caplog.clear()
    trainer = run(chg=True, **flags)
    assert "frozen" not in caplog.text
    saved = BTCChat.from_pretrained(trainer.args.output_dir).config.change_encoder
    assert saved == {"change_encoder_type": "attentive", "cc_n_layers": 1, "cc_head": 4, "cc_dropout": 0.1}
    with pytest.raises(BTCChatError, match="--chg False contradicts --chg_type Chg2Cap"):
        run(chg=False, **flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"mm_vision_select_layer": -2}, "--mm_vision_select_layer is -2, but the checkpoint's config.json says -1"),
        ({"mm_vision_select_feature": "patch"}, "--mm_vision_select_feature is patch, .* says cls_patch"),
        ({"mm_projector": "linear"}, "--mm_projector is linear, but the checkpoint's config.json says mlp_downsample"),
        ({"mm_use_im_start_end": True}, "--mm_use_im_start_end is True, but the checkpoint's config.json says False"),
        ({"vision_tower": "google/siglip-so400m-patch14-384"}, r"\(hidden_size 1152\), .* says hidden_size 16; leave"),
        (
            {"cc_projector_lr": 1e-5},
            r"--cc_projector_lr is 1e-05, but change_encoder is frozen \(--tune_mm_projector F",
        ),
        ({"mm_vision_tower_lr": 0.5}, r"--mm_vision_tower_lr is 0.5, but vision_tower is frozen"),
        ({"version": "v2"}, "unknown prompt template 'v2'"),
        ({"cc_head": 4}, "cc_head is 4, but the checkpoint has 8"),
        ({"chg": False}, "chg_type is concat, but the checkpoint has attentive"),
        ({"mixture": "pairs+clouds"}, "unknown data set 'clouds'"),
        ({"model_max_length": 60}, "pairs.json row [0-9]+: "),
        ({"gradient_accumulation_steps": 99}, "lower --gradient_accumulation_steps"),
        ({"learning_rate": 1e30, "max_grad_norm": 0, "max_steps": 9}, "the loss is nan at step"),
    ],
)
def test_flags_that_contradict_the_checkpoint_are_errors(run, flags, message):
    with pytest.raises(BTCChatError, match=message):
        run(**{"mixture": "pairs", "tune_language_model": True} | flags)


def test_data_flags_are_saved_with_the_model(run):
    flags = {"num_video_frames": 2, "image_aspect_ratio": "pad", "model_max_length": 200, "version": "plain"}
    trainer = run("images", tune_single_projector=True, **flags)
    model = BTCChat.from_pretrained(trainer.args.output_dir)
    config = model.config
    assert (config.num_video_frames, config.image_aspect_ratio, config.model_max_length) == (2, "pad", 200)
    assert (config.conv_version, model.image_processor.aspect_ratio) == ("plain", "pad")


def test_the_loss_falls_on_every_modality_together(run):
    flags = {"tune_language_model": True, "tune_mm_projector": True, "tune_vision_tower": True}
    curve = losses(run(ALL, max_steps=40, per_device_train_batch_size=8, learning_rate=5e-3, **flags))
    assert sum(curve[-5:]) < 0.5 * sum(curve[:5])


def test_training_in_bfloat16_keeps_float32_weights(run):
    trainer = run(ALL, tune_language_model=True, tune_mm_projector=True, bf16=True)
    assert {value.dtype for value in state(trainer.args.output_dir).values() if value.is_floating_point()} == {
        torch.float32
    }
    exact = run(ALL, tune_language_model=True, tune_mm_projector=True, output_dir=f"{trainer.args.output_dir}32")
    assert losses(trainer) == pytest.approx(losses(exact), rel=0.02)
    assert trainer.state.log_history[-1]["train_loss"] != exact.state.log_history[-1]["train_loss"]  # bf16 was used
    assert not {"forward", "_original_forward"} & vars(trainer.model).keys()  # the model is left without autocast


FULL = {"tune_language_model": True, "tune_mm_projector": True, "cc_dropout": 0.3, "save_strategy": "steps"}


def test_worker_processes_change_nothing(run, tmp_path):
    here, there = (run(ALL, **FULL, dataloader_num_workers=n, output_dir=tmp_path / str(n)) for n in (0, 2))
    assert losses(here) == losses(there)
    assert here.state.log_history[-1]["train_loss"] == there.state.log_history[-1]["train_loss"]


def test_a_checkpoint_is_a_model_that_loads(run, tmp_path):
    run(**FULL, save_steps=2)
    final, checkpoint = state(tmp_path / "out"), state(tmp_path / "out" / "checkpoint-2")
    assert all(torch.equal(checkpoint[key], value) for key, value in final.items())


@pytest.mark.parametrize(
    ("precision", "capability", "expected"),
    [
        ("bf16", (8, 0), "flash_attention_2"),
        ("fp16", (9, 0), "flash_attention_2"),
        ("no", (9, 0), "sdpa"),
        ("fp16", (7, 5), "sdpa"),
    ],
)
def test_attention_is_chosen_by_what_autocast_computes_in(monkeypatch, precision, capability, expected):
    """The weights are float32, which flash-attention cannot read; and it runs on an Ampere GPU or a newer one."""
    seen = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(train_module, "load_model", lambda *given: seen.append(given[-1]) or SimpleNamespace())
    training = SimpleNamespace(device=torch.device("cuda", 0), bits=16, lora_enable=False, label_smoothing=0.0)
    training.computes_in = TrainingArguments.computes_in.fget(SimpleNamespace(mixed_precision=precision))
    train_module._model(SimpleNamespace(training=training, model=None, data=None), None)
    assert seen == [expected]
