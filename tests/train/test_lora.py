"""Training an adapter of the language model together with the projector and change encoder."""

import json
import shutil

import pytest
import torch

from btcchat import BTCChat, BTCChatError
from btcchat.checkpoint import adapter
from btcchat.layers.quantized import cuda
from btcchat.train.flags import parse_arguments
from tests.train.runs import complete_checkpoints

LORA = {"lora_enable": True, "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.2}
ALL = "images+pairs+series+videos+texts"


def losses(trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def state(path) -> dict[str, torch.Tensor]:
    return BTCChat.from_pretrained(path, dtype=torch.float32, device="cpu").state_dict()


def test_only_the_adapter_and_the_tuned_parts_change(run, checkpoint, capsys, caplog):
    with caplog.at_level("INFO", logger="btcchat"):
        trainer = run(ALL, **LORA, tune_mm_projector=True)
    assert "LoRA: r 4, alpha 8, on down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in caplog.text
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line}
    llm = sum(p.numel() for p in BTCChat.from_pretrained(checkpoint).llm.parameters())
    assert rows["llm"] == [f"{llm:,}", "no", "-"]
    assert rows["lora"][1:] == ["yes", "0.001"]
    before = state(checkpoint)
    after = {key.replace(".base_layer.", "."): value for key, value in state(trainer.args.output_dir).items()}
    still = {key for key, value in before.items() if torch.equal(value, after[key])}
    assert {key.partition(".")[0] for key in set(before) - still} == {"mm_projector", "change_encoder"}
    fresh = {key for key in after if "lora_B" in key}
    assert len(fresh) == 2 * 7 and all(after[key].abs().sum() > 0 for key in fresh)  # B starts at 0


def test_the_loss_falls_with_an_adapter_alone(run):
    flags = LORA | {"lora_dropout": 0, "lora_r": 16, "lora_alpha": 64}
    curve = losses(run(ALL, **flags, max_steps=40, per_device_train_batch_size=8, learning_rate=1e-2))
    assert sum(curve[-5:]) / 5 < curve[0] - 0.15  # under a random head, which is frozen


def test_a_resumed_adapter_run_equals_the_uninterrupted_one(run, tmp_path):
    flags = LORA | {"tune_mm_projector": True, "save_strategy": "steps", "save_steps": 2, "max_steps": 5}
    whole = run(ALL, **flags, output_dir=tmp_path / "whole", save_total_limit=9)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for later in complete_checkpoints(tmp_path / "cut")[1:]:
        shutil.rmtree(later)
    (tmp_path / "cut" / "config.json").unlink()
    resumed = run(ALL, **flags, output_dir=tmp_path / "cut", resume=True)
    assert losses(resumed) == losses(whole)
    final, again = state(tmp_path / "whole"), state(tmp_path / "cut")
    assert all(torch.equal(again[key], value) for key, value in final.items())
    base = json.loads((tmp_path / "cut" / "config.json").read_text())["base_model"]
    assert base == json.loads((tmp_path / "whole" / "config.json").read_text())["base_model"]


def test_a_run_continues_from_an_adapter(run, checkpoint, tmp_path):
    first = run(**LORA, output_dir=tmp_path / "first")
    flags = {"model_name_or_path": tmp_path / "first", "tune_vision_tower": True}
    second = run(**flags, lora_enable=True, output_dir=tmp_path / "second")
    assert second.model.base.path == str(checkpoint) and second.model.base.parts == ["llm"]
    assert adapter.lora_layers(first.model.llm).keys() == adapter.lora_layers(second.model.llm).keys()
    assert torch.equal(
        second.model.vision_tower.state_dict()["vision_model.embeddings.position_embedding.weight"],
        state(tmp_path / "second")["vision_tower.vision_model.embeddings.position_embedding.weight"],
    )
    frozen = run(**flags, output_dir=tmp_path / "third")  # the adapter is part of the model, and is frozen
    third = state(tmp_path / "third")
    assert all(torch.equal(third[key], value) for key, value in state(tmp_path / "first").items() if "lora_" in key)
    assert not frozen.model.llm.training
    with pytest.raises(BTCChatError, match="the checkpoint is an adapter; continue with --lora_enable True"):
        run(**flags, tune_language_model=True)
    with pytest.raises(BTCChatError, match="--lora_r is 8, but the adapter has 4; leave the flag out"):
        run(**flags, lora_enable=True, lora_r=8)


@pytest.mark.parametrize("options", ["{}", '{"use_reentrant": true}'])
def test_gradient_checkpointing_trains_an_adapter_over_frozen_parts(run, tmp_path, options):
    plain = run(ALL, **LORA | {"lora_dropout": 0})
    flags = LORA | {"lora_dropout": 0, "gradient_checkpointing": True, "gradient_checkpointing_kwargs": options}
    again = run(ALL, **flags, output_dir=tmp_path / "again")
    norms = [[entry["grad_norm"] for entry in one.state.log_history if "loss" in entry] for one in (plain, again)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4) and min(norms[0]) > 0
    assert losses(again) == pytest.approx(losses(plain), abs=1e-6)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"lora_r": 4}, "--lora_r has no effect without --lora_enable True"),
        ({"bits": 4}, "--bits has no effect without --lora_enable True"),
        ({"lora_enable": True, "tune_language_model": True}, "train the adapter or the LM itself"),
        ({"lora_enable": True, "bits": 5}, "--bits is 5, expected 4, 8 or 16"),
        ({"lora_enable": True, "lora_r": 0}, "--lora_r is 0, expected 1 or more"),
        ({"lora_enable": True, "lora_dropout": 2}, "--lora_dropout is 2, expected 0 to 1"),
    ],
)
def test_invalid_lora_flags_are_errors(flags, message):
    needed = {"model_name_or_path": "m", "data_mixture": "a", "output_dir": "o", "use_cpu": True}
    with pytest.raises(BTCChatError, match=message):
        parse_arguments([word for name, value in (needed | flags).items() for word in (f"--{name}", str(value))])


def test_target_modules_are_chosen_by_name(run):
    trainer = run(**LORA, lora_target_modules="q_proj, v_proj")
    adapted = {name.rpartition(".")[2] for name in adapter.lora_layers(trainer.model.llm)}
    assert adapted == {"q_proj", "v_proj"}


def test_qlora_without_a_gpu_or_bitsandbytes_is_an_error_of_one_line(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BTCChatError, match="--bits 4 needs a CUDA GPU, but PyTorch finds none here"):
        run(**LORA, bits=4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(BTCChatError, match="--bits 8 needs the package bitsandbytes, which cannot be imported"):
        cuda.import_bitsandbytes("--bits 8", "")
