"""A training step of the 3B's language model: samples per second, share of the GPU's peak, memory.

As in btcchat/train: weights in float32 under bfloat16 autocast, a bfloat16 copy of the frozen tower, clipped gradients,
fused AdamW.
"""

import statistics
import time
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

STEPS = 3
HEAD = (
    "step",
    "pairs",
    "samples/s",
    "tokens/s",
    "MFU",
    "ms",
    "launching, ms",
    "clipping and optimizer, ms",
    "peak GiB",
    "loss, first and last",
)
FEW, MANY, ACCUMULATED = 8, 24, 4  # pairs in a batch, and batches in a step


def whole(setting: Setting) -> Iterator[str]:
    """Train all weights of the language model; then accumulate batches as in the preset, then checkpoint gradients."""
    run = Run(setting)
    run.model.llm.requires_grad_(True)
    yield run.measure("all weights", passes=3, pairs_each=FEW)
    yield run.measure("all weights", passes=3, pairs_each=MANY)
    yield run.measure("all weights", passes=3, pairs_each=MANY, batches=ACCUMULATED)
    run.model.gradient_checkpointing_enable()
    yield run.measure("gradient checkpointing", passes=3, pairs_each=MANY, batches=ACCUMULATED)


def lora(setting: Setting) -> Iterator[str]:
    need("peft")
    run = Run(setting)
    add_adapter(run.model)
    yield run.measure("LoRA", passes=2, pairs_each=FEW)
    yield run.measure("LoRA", passes=2, pairs_each=MANY)
    run.model.gradient_checkpointing_enable()
    yield run.measure("LoRA, gradient checkpointing", passes=2, pairs_each=MANY)


def qlora(setting: Setting) -> Iterator[str]:
    """The language model is quantised as it moves from the CPU to the GPU, as in a run.

    With --tiny, bitsandbytes quantises on the CPU. A run refuses to do so, because it would be slow.
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
    yield run.measure("QLoRA", passes=2, pairs_each=FEW)
    yield run.measure("QLoRA", passes=2, pairs_each=MANY)


def add_adapter(model: BTCChat) -> None:
    """Attach an adapter, then move the whole model to the device of its tower."""
    options = DEFAULTS | {"target_modules": adapter.linear_names(model.llm)}
    adapter.attach(model.llm, **options)
    model.to(model.vision_tower.get_parameter("vision_model.post_layernorm.weight").device)
    for name, parameter in model.llm.named_parameters():
        parameter.requires_grad_("lora_" in name)


class Run:
    """The model on its device, and a table that grows by a row with each `measure`."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.device = setting, device_of(setting)
        self.peak = gemm_peak(self.device, torch.bfloat16)
        self.model = build("3b", self.device, dtype=torch.float32, tiny=setting.tiny).requires_grad_(False)
        one = pairs(self.model, 1, train=True)
        self.length = length(self.model, one)
        self.tower = FrozenTower(self.model.vision_tower)
        # FLOP of a forward pass of one pair: of the frozen tower, and of all that follows it.
        self.seen = flops_of(lambda: self.model.see(one["frames"]))
        self.passed = flops_of(lambda: self.model(**one)) - self.seen
        self.notes: list[str] = []
        self.rows: list[list[str]] = []

    def measure(self, name: str, *, passes: int, pairs_each: int, batches: int = 1) -> str:
        """Measure a step; -> the table with its row added.

        passes: number of forward passes that a step counts as, except for the tower: 3 if weights are trained, 2 if
        gradients only pass through them. What gradient checkpointing computes twice counts once.
        """
        pairs_each = min(pairs_each, 2) if self.setting.tiny else pairs_each
        batch: Batch = pairs(self.model, pairs_each, train=True)
        self.model.train()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
        step = Step(self, [batch] * batches, optimizer, trained)
        for _ in range(2 if batches == 1 else 1):  # the first creates the optimizer's state
            step.run()
        rest = reset_peak(self.device)
        times = [step.run() for _ in range(STEPS)]
        seconds = statistics.median(whole for whole, _ in times)
        launching = statistics.median(launched for _, launched in times)
        taken = "-" if rest is None else f"{memory(self.device, peak=True) / 1024:.1f}"
        step.gradients()
        rest_of_step = seconds_of(step.update, self.device)
        samples, losses = pairs_each * batches, step.losses
        share = samples * (self.seen + passes * self.passed) / (seconds * self.peak)
        self.rows.append(
            [
                name,
                f"{batches} x {pairs_each}" if batches > 1 else str(pairs_each),
                f"{samples / seconds:.2f}",
                f"{samples * self.length / seconds:,.0f}",
                f"{100 * share:.0f} %",
                *(f"{1000 * one:.0f}" for one in (seconds, launching, rest_of_step)),
                taken,
                f"{losses[0]:.3f}, {losses[-1]:.3f}",
            ]
        )
        note = f"{name}: {sum(p.numel() for p in trained) / 1e6:,.1f} M weights are trained."
        self.notes += [note] * (note not in self.notes)
        intro = f"Pairs of {self.length} tokens; the tower is frozen. {peak_line(self.peak)}. {' '.join(self.notes)}"
        return f"{intro}\n\n{table(HEAD, self.rows)}"


class Step:
    """An optimizer step on some batches, as in btcchat/train/trainer.py."""

    def __init__(
        self, run: Run, batches: list[Batch], optimizer: torch.optim.Optimizer, trained: list[torch.nn.Parameter]
    ) -> None:
        self.model, self.device, self.encoder = run.model, run.device, TrainingEncoder(tower=run.tower)
        self.batches, self.optimizer, self.trained = batches, optimizer, trained
        self.losses: list[torch.Tensor] = []

    def run(self) -> tuple[float, float]:
        """-> seconds until the device is done, and until all its work was launched."""
        launched = 0.0

        def work() -> None:
            nonlocal launched
            start = time.perf_counter()
            self.gradients()
            self.update()
            launched = time.perf_counter() - start

        return seconds_of(work, self.device), launched

    def gradients(self) -> None:
        losses = []
        for batch in self.batches:
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                loss = self.model(**batch, encoder=self.encoder).loss / len(self.batches)
            loss.backward()
            losses.append(loss.detach())
        self.losses.append(torch.stack(losses).sum())

    def update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
