"""A training step of the 3B's language model: samples a second, share of the GPU's peak, memory.

As in btcchat/train: weights in float32 under bfloat16 autocast, the frozen tower as a copy in bfloat16, fused AdamW.
"""

import statistics
from collections.abc import Iterator
from unittest import mock

import torch

from btcchat import BTCChat
from btcchat.checkpoint import adapter
from btcchat.eval.encoders.machine import memory, reset_peak
from btcchat.eval.encoders.markdown import table
from btcchat.processor import Batch
from btcchat.train.encoder import TrainingEncoder
from btcchat.train.frozen_tower import FrozenTower
from btcchat.train.lora import DEFAULTS, quantise
from gpu_rows.models import build, length, pairs
from gpu_rows.setting import Setting, need
from gpu_rows.speed import device_of, flops_of, gemm_peak, peak_line, seconds_of

SAMPLES, STEPS = 8, 8
HEAD = ("step", "samples/s", "tokens/s", "MFU", "peak GiB", "loss, first and last")


def whole(setting: Setting) -> Iterator[str]:
    """All weights of the language model, without and with gradient checkpointing."""
    run = Run(setting)
    run.model.llm.requires_grad_(True)
    yield run.measure("all weights", passes=3)
    run.model.gradient_checkpointing_enable()
    yield run.measure("all weights, gradient checkpointing", passes=3)


def lora(setting: Setting) -> Iterator[str]:
    need("peft")
    run = Run(setting)
    add_adapter(run.model)
    yield run.measure("LoRA", passes=2)
    run.model.gradient_checkpointing_enable()
    yield run.measure("LoRA, gradient checkpointing", passes=2)


def qlora(setting: Setting) -> Iterator[str]:
    """The language model goes from the CPU to the GPU, which quantises it, as in a run.

    With --tiny bitsandbytes quantises on the CPU, where a run refuses to: it would be slow.
    """
    need("bitsandbytes")
    need("peft")
    run = Run(setting)
    run.model.llm.to("cpu")
    with mock.patch("torch.cuda.is_available", return_value=True):
        quantise(run.model.llm, 4, torch.bfloat16)
    add_adapter(run.model)
    quantised = [p for p in run.model.llm.parameters() if p.dtype == torch.uint8]
    if not quantised:
        raise RuntimeError("no weight of the language model is in 4 bits")
    run.notes.append(f"{2 * sum(p.numel() for p in quantised) / 1e6:,.1f} M weights are in 4 bits.")
    yield run.measure("QLoRA", passes=2)
    run.model.gradient_checkpointing_enable()
    yield run.measure("QLoRA, gradient checkpointing", passes=2)


def add_adapter(model: BTCChat) -> None:
    """Then the whole model goes to the device of its tower."""
    options = DEFAULTS | {"target_modules": adapter.linear_names(model.llm)}
    adapter.attach(model.llm, **options)
    model.to(model.vision_tower.get_parameter("vision_model.post_layernorm.weight").device)
    for name, parameter in model.llm.named_parameters():
        parameter.requires_grad_("lora_" in name)


class Run:
    """The model on its device, one batch, and a table that grows by a row with each `measure`."""

    def __init__(self, setting: Setting) -> None:
        self.device = device_of(setting)
        self.peak = gemm_peak(self.device, torch.bfloat16)
        self.model = build("3b", self.device, dtype=torch.float32, tiny=setting.tiny).requires_grad_(False)
        self.samples, self.steps = (2, 2) if setting.tiny else (SAMPLES, STEPS)
        self.batch: Batch = pairs(self.model, self.samples, train=True)
        self.tokens = self.samples * length(self.model, self.batch)
        self.tower = FrozenTower(self.model.vision_tower)
        # Of one pass forward: of the frozen tower, and of all that follows it.
        self.seen = flops_of(lambda: self.model.see(self.batch["frames"]))
        self.passed = flops_of(lambda: self.model(**self.batch)) - self.seen
        self.notes: list[str] = []
        self.rows: list[list[str]] = []

    def measure(self, name: str, passes: int) -> str:
        """-> the table with one more row.

        passes: forward passes that a step is counted as, but for the tower: 3 where weights are trained, 2 where
        gradients only go through them. What gradient checkpointing computes twice counts once.
        """
        self.model.train()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
        losses = [self.step(optimizer), self.step(optimizer)]  # the first makes the optimizer's state
        rest = reset_peak(self.device)
        seconds = statistics.median(self.timed(optimizer, losses) for _ in range(self.steps))
        taken = "-" if rest is None else f"{memory(self.device, peak=True) / 1024:.1f}"
        share = (self.seen + passes * self.passed) / (seconds * self.peak)
        speeds = [f"{self.samples / seconds:.2f}", f"{self.tokens / seconds:,.0f}", f"{100 * share:.0f} %"]
        self.rows.append([name, *speeds, taken, f"{losses[0]:.3f}, {losses[-1]:.3f}"])
        optimizer.zero_grad(set_to_none=True)
        millions = sum(p.numel() for p in trained) / 1e6
        self.notes.append(f"{name}: {millions:,.1f} M weights are trained.")
        intro = (
            f"{self.samples} pairs of {self.tokens // self.samples} tokens in a step; the tower is frozen. "
            f"{peak_line(self.peak)}. {' '.join(self.notes)}"
        )
        return f"{intro}\n\n{table(HEAD, self.rows)}"

    def timed(self, optimizer: torch.optim.Optimizer, losses: list[torch.Tensor]) -> float:
        def work() -> None:
            losses.append(self.step(optimizer))

        return seconds_of(work, self.device)

    def step(self, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            loss = self.model(**self.batch, encoder=TrainingEncoder(tower=self.tower)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()
