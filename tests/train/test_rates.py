"""Parts with their own learning rate."""

import re

import pytest
import torch
from torch import nn

from btcchat.api import BTCChat
from btcchat.train.optimizer import decayed_parameters

EVERYTHING = {"tune_vision_tower": True, "tune_mm_projector": True, "tune_language_model": True, "weight_decay": 0.1}


def moved(trainer, checkpoint) -> set[str]:
    before = BTCChat.from_pretrained(checkpoint, dtype=torch.float32, device="cpu")
    parameters = dict(trainer.model.named_parameters())
    return {
        name.partition(".")[0]
        for name, value in before.named_parameters()
        if not torch.equal(value, parameters[name].detach())
    }


def test_a_part_whose_rate_is_0_does_not_change(run, checkpoint):
    trainer = run(**EVERYTHING, mm_vision_tower_lr=0.0, cc_projector_lr=0.0)
    assert moved(trainer, checkpoint) == {"mm_projector", "llm"}


def test_the_projectors_rate_is_the_change_encoders_unless_that_has_its_own(run, checkpoint):
    assert moved(run(**EVERYTHING, mm_projector_lr=0.0), checkpoint) == {"vision_tower", "llm"}
    trainer = run(**EVERYTHING, mm_projector_lr=0.0, cc_projector_lr=2e-4, overwrite_output_dir=True)
    assert moved(trainer, checkpoint) == {"vision_tower", "llm", "change_encoder"}


def test_rates_are_printed_and_logged_and_follow_the_schedule(run, capsys):
    trainer = run(**EVERYTHING, mm_vision_tower_lr=1e-4, max_steps=4, lr_scheduler_type="linear", warmup_ratio=0)
    rows = {line.split()[0]: line.split()[-1] for line in capsys.readouterr().out.splitlines()[:6] if line}
    assert (rows["vision_tower"], rows["llm"]) == ("0.0001", "0.001")
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["learning_rate"] for entry in logged] == pytest.approx([7.5e-4, 5e-4, 2.5e-4, 0])
    assert [entry["learning_rate_vision_tower"] for entry in logged] == pytest.approx([7.5e-5, 5e-5, 2.5e-5, 0])


NORMS = {
    *("llm.model.layers.input_layernorm", "llm.model.layers.post_attention_layernorm", "llm.model.norm"),
    *("vision_tower.vision_model.encoder.layers.layer_norm", "vision_tower.vision_model.post_layernorm"),
    *("change_encoder.selftrans.norm", "change_encoder.LN.left", "mm_projector"),
}


def test_biases_and_norms_are_not_decayed_whatever_their_rate(run):
    trainer = run(**EVERYTHING, mm_vision_tower_lr=1e-4, cc_projector_lr=1e-5)
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    groups = trainer.optimizer.param_groups
    assert sorted(names) == sorted(id(p) for group in groups for p in group["params"])  # each once
    decayed = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    undecayed = set(names.values()) - decayed
    assert {name for name in names.values() if "bias" in name} <= undecayed
    assert {re.sub(r"\.?\d", "", name.removesuffix(".weight")) for name in undecayed if "bias" not in name} == NORMS
    assert len({(group.get("part"), group["weight_decay"]) for group in groups}) == len(groups) == 6


def test_no_kind_of_norm_decays():
    norms = [nn.LayerNorm(4), nn.RMSNorm(4), nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.SyncBatchNorm(4)]
    norms += [nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True)]
    model = nn.Sequential(nn.Linear(4, 4), *norms, nn.Embedding(4, 4), nn.Conv2d(4, 4, 1))
    assert decayed_parameters(model) == {"0.weight", "8.weight", "9.weight"}
