"""The transformers Trainer with the log lines of this project, which a resumed run continues as if never stopped."""

import math
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import Trainer
from transformers.trainer_utils import TrainOutput

from btcchat.errors import BTCChatError
from btcchat.files import read_json, write_json
from btcchat.processor import Batch
from btcchat.prompt import IGNORE_INDEX
from btcchat.train.meter import Meter, MeterState, peak_memory_gb

DIVERGED = "the training has diverged; start it again with a lower --learning_rate or --max_grad_norm"
METER = "meter.json"  # in a checkpoint: the counts that a resumed run continues


class RunState(MeterState, total=False):
    """meter.json. ``faults`` and ``cut`` are those of `BTCChatTrainer`, of all processes."""

    faults: list[str]
    cut: list[str]


class MeteredTrainer(Trainer):
    """Logs loss, gradient norm (before clipping), learning rates, samples and supervised tokens a second, memory.

    Raises BTCChatError if the loss is not finite, before a checkpoint with such weights is written.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.meter = Meter(self.args.device, self.accelerator.gather)
        self.grad_norm: torch.Tensor | float | None = None  # of the last step

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        clip = self.accelerator.clip_grad_norm_

        def clip_and_remember(*args: Any, **kwargs: Any) -> torch.Tensor | float | None:
            self.grad_norm = clip(*args, **kwargs)
            if self.grad_norm is None:  # DeepSpeed clips by itself
                self.grad_norm = self.model_wrapped.get_global_grad_norm()
            return self.grad_norm

        self.accelerator.clip_grad_norm_ = clip_and_remember

    def train(self, resume_from_checkpoint: str | None = None) -> TrainOutput:
        self.args.max_grad_norm = self.args.max_grad_norm or math.inf  # 0: nothing is clipped, the norm is measured
        return super().train(resume_from_checkpoint)

    def training_step(self, model: nn.Module, inputs: Batch) -> torch.Tensor:
        samples, tokens = len(inputs["modalities"]), int((inputs["labels"] != IGNORE_INDEX).sum())
        loss: torch.Tensor = super().training_step(model, inputs)
        self.meter.add(loss * self.args.gradient_accumulation_steps, samples, tokens)
        return loss

    def log(self, logs: dict[str, float]) -> None:
        if "loss" in logs:  # the Trainer's own mean starts again when a run is resumed
            logs = self._checked(self.meter.read()) | self._step_figures()
        elif "train_loss" in logs:  # the last line; its speeds would be wrong for a resumed run
            logs = {"train_runtime": logs["train_runtime"], "train_loss": round(self.meter.mean_loss(), 6)}
            self._checked({"loss": logs["train_loss"]})
        super().log(logs)

    def _step_figures(self) -> dict[str, float]:
        assert self.grad_norm is not None  # a line is logged after a step
        figures = {"grad_norm": round(float(self.grad_norm), 6), "learning_rate": self._get_learning_rate()}
        for group in self.optimizer.param_groups:
            if "part" in group:  # see own_rates
                figures[f"learning_rate_{group['part']}"] = group["lr"]
        memory = peak_memory_gb(self.args.device)
        return figures if memory is None else figures | {"peak_memory_gb": round(memory, 3)}

    def _checked(self, figures: dict[str, float]) -> dict[str, float]:
        if not math.isfinite(figures["loss"]):
            raise BTCChatError(f"the loss is {figures['loss']} at step {self.state.global_step}: {DIVERGED}")
        return figures

    def _save_checkpoint(self, model: nn.Module, trial: Any, metrics: dict[str, float] | None = None) -> None:
        self._checked({"loss": self.meter.mean_loss()})
        super()._save_checkpoint(model, trial, metrics)

    def saved_state(self) -> RunState:
        """The state that a resumed run continues from: the sums for the next log line, over all processes."""
        return {**self.meter.state()}

    def restore_state(self, state: RunState) -> None:
        """Continue from what ``saved_state`` returned."""
        self.meter.load_state(state, self.is_world_process_zero())

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        state = self.saved_state()  # every process takes part
        if self.args.should_save:
            write_json(Path(output_dir, METER), state)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is not None:
            self.restore_state(cast(RunState, read_json(Path(checkpoint, METER))))
