"""One step, however it is computed: in several batches, with blocks computed twice, on a blank pair."""

import pytest
import torch

from btcchat.api import BTCChat
from btcchat.train import training_arguments
from btcchat.train.accelerator import build_accelerator
from btcchat.train.encoder import TrainingEncoder

EVERYTHING = {"tune_vision_tower": True, "tune_mm_projector": True, "tune_language_model": True}


def losses(trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_accumulated_batches_equal_one_large_batch(run, tmp_path):
    """The answers differ in length, so a mean of means would differ. Every step has all samples."""
    flags = {"tune_vision_tower": True, "tune_language_model": True, "max_steps": 3, "max_grad_norm": 0.1}
    curves = []
    for size, accumulate in ((4, 1), (2, 2), (1, 4)):
        flags |= {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulate}
        trainer = run("images", **flags, output_dir=tmp_path / str(size))
        curves.append(losses(trainer))
    samples = [trainer.train_dataset[i] for i in range(4)]
    assert len({int((sample["labels"] >= 0).sum()) for sample in samples}) > 1
    assert curves[1] == pytest.approx(curves[0], abs=1e-4)
    assert curves[2] == pytest.approx(curves[0], abs=1e-4)


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adamw_torch"])
def test_the_learning_rate_waits_for_a_step_that_the_gradient_scaler_skips(run, tmp_path, monkeypatch, optim):
    """As with --fp16, but on the CPU: the first scaled loss is infinite, and the next are not."""

    def scaled(args):
        accelerator = build_accelerator(args)
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-120)
        return accelerator

    flags = {"tune_language_model": True, "max_steps": 3, "logging_steps": 1, "warmup_ratio": 0.0, "max_grad_norm": 0}
    flags |= {"lr_scheduler_type": "linear", "learning_rate": 1e-3, "optim": optim}
    curves = []
    for folder in ("plain", "scaled"):
        trainer = run("images", **flags, output_dir=tmp_path / folder)
        curves.append([entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry])
        monkeypatch.setattr(training_arguments, "build_accelerator", scaled)
    assert curves[1] == [1e-3, *curves[0][:2]]


@pytest.fixture
def model(checkpoint):
    return BTCChat.from_pretrained(checkpoint, device="cpu", dtype=torch.float32)


def batch_of(run, mixture: str, *which: int) -> dict:
    trainer = run(mixture, tune_language_model=True, max_steps=1)
    return trainer.model.processor.collate([trainer.train_dataset[i] for i in which])


def gradients(model, batch: dict, **options) -> tuple[torch.Tensor, dict]:
    model.zero_grad()
    loss = model(**batch, **options).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("frozen", [None, "llm", "vision_tower"])
def test_gradient_checkpointing_changes_neither_loss_nor_gradients(run, model, frozen):
    batch = batch_of(run, "images+pairs+texts", 0, 5, 6, 20)
    if frozen:
        getattr(model, frozen).requires_grad_(False)
    model.change_encoder.eval().requires_grad_(False)  # its statistics move with each forward
    plain = gradients(model.train(), batch)
    computed = []
    for block in (*model.llm.model.layers, *model.vision_tower.vision_model["encoder"]["layers"]):
        # A hook of the block itself is not called again where transformers (5.24) checkpoints its ``forward`` alone.
        next(block.children()).register_forward_pre_hook(lambda *_: computed.append(1))
    model.gradient_checkpointing_enable()
    again = gradients(model.train(), batch)
    assert torch.equal(again[0], plain[0])
    assert again[1].keys() == plain[1].keys() and len(plain[1]) > 10
    for name, gradient in plain[1].items():
        torch.testing.assert_close(again[1][name], gradient, msg=name)
    blocks = {"llm": 2, "vision_tower": 2}
    # Every block is computed twice, except those of a frozen tower: nothing below them is trained.
    assert len(computed) == 2 * sum(blocks.values()) - (blocks["vision_tower"] if frozen == "vision_tower" else 0)
    if frozen == "llm":
        assert not any(layer.self_attn.training for layer in model.llm.model.layers)


def test_a_run_with_gradient_checkpointing_equals_one_without(run, tmp_path):
    mixture = "images+pairs+series+videos+texts"
    plain = run(mixture, **EVERYTHING)
    again = run(mixture, **EVERYTHING, gradient_checkpointing=True, output_dir=tmp_path / "again")
    assert losses(again) == pytest.approx(losses(plain), abs=1e-6)
    assert again.model.vision_tower.gradient_checkpointing and again.model.llm.is_gradient_checkpointing


@pytest.mark.parametrize(("mixture", "which"), [("images", [0, 1]), ("texts", [0])])
def test_a_blank_pair_runs_every_part_and_changes_nothing(run, model, mixture, which):
    batch = batch_of(run, mixture, *which)
    model.train()
    loss, without = gradients(model, batch)
    assert not any(name.startswith("change_encoder") for name in without)
    statistics = {key: value.clone() for key, value in model.change_encoder.state_dict().items()}
    again, with_blank = gradients(model, batch, encoder=TrainingEncoder(every_part=True))
    torch.testing.assert_close(again, loss, atol=1e-6, rtol=0)
    for name, gradient in with_blank.items():
        expected = without.get(name, torch.zeros_like(gradient))
        torch.testing.assert_close(gradient, expected, atol=1e-7, rtol=1e-5, msg=name)
    unused = {name for name, _ in model.named_parameters()} - set(with_blank)
    assert all("post_layernorm" in name for name in unused)  # the tower's last norm is built and not used
    assert all(torch.equal(value, statistics[key]) for key, value in model.change_encoder.state_dict().items())
    assert model.change_encoder.training


def test_inference_never_sees_a_blank_pair(run, model):
    batch = batch_of(run, "images", 0)
    labels = batch.pop("labels")
    seen = []
    model.change_encoder.register_forward_hook(lambda *_: seen.append(1))
    encoder = TrainingEncoder(every_part=True)
    with torch.no_grad():
        model.eval()(**batch, encoder=encoder)
        assert not seen
        model.train()(labels=labels, **batch, encoder=encoder)
    assert seen == [1]


def test_adam_counts_the_steps_in_which_a_part_has_no_sample(run):
    trainer = run("texts", tune_language_model=True, tune_cc_projector=True, max_steps=2)
    steps = {
        name: trainer.optimizer.state[p].get("step") for name, p in trainer.model.named_parameters() if p.requires_grad
    }
    assert any(name.startswith("change_encoder") for name in steps) and set(map(float, steps.values())) == {2.0}
