"""The transformers Trainer with the log lines of this project, which a resumed run continues as if never stopped."""

import math
from pathlib import Path

import torch
from transformers import Trainer

from btcchat.errors import BTCChatError
from btcchat.files import read_json, write_json
from btcchat.prompt import IGNORE_INDEX
from btcchat.train.meter import Meter, peak_memory_gb

METER = "meter.json"  # in a checkpoint: what a resumed run goes on counting


class MeteredTrainer(Trainer):
    """Logs loss, gradient norm (before clipping), learning rates, samples and supervised tokens a second, memory.

    Raises BTCChatError where the loss is not finite, before a checkpoint of such weights is written.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.meter = Meter(self.args.device, self.accelerator.gather)
        self.grad_norm = None  # of the last step

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        clip = self.accelerator.clip_grad_norm_

        def clip_and_remember(*args, **kwargs):
            self.grad_norm = clip(*args, **kwargs)
            if self.grad_norm is None:  # DeepSpeed clips by itself
                self.grad_norm = self.model_wrapped.get_global_grad_norm()
            return self.grad_norm

        self.accelerator.clip_grad_norm_ = clip_and_remember

    def train(self, *args, **kwargs):
        self.args.max_grad_norm = self.args.max_grad_norm or math.inf  # 0: nothing is clipped, the norm is measured
        return super().train(*args, **kwargs)

    def training_step(self, model, inputs, *args, **kwargs) -> torch.Tensor:
        samples, tokens = len(inputs["modalities"]), int((inputs["labels"] != IGNORE_INDEX).sum())
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.meter.add(loss * self.args.gradient_accumulation_steps, samples, tokens)
        return loss

    def log(self, logs: dict[str, float]) -> None:
        if "loss" in logs:  # the Trainer's own mean starts anew where a run is resumed
            logs = self._checked(self.meter.read()) | self._step_figures()
        elif "train_loss" in logs:  # the last line; its speeds would be wrong for a resumed run
            logs = {"train_runtime": logs["train_runtime"], "train_loss": round(self.meter.mean_loss(), 6)}
            self._checked({"loss": logs["train_loss"]})
        super().log(logs)

    def _step_figures(self) -> dict[str, float]:
        figures = {"grad_norm": round(float(self.grad_norm), 6), "learning_rate": self._get_learning_rate()}
        for group in self.optimizer.param_groups:
            if "part" in group:  # see own_rates
                figures[f"learning_rate_{group['part']}"] = group["lr"]
        memory = peak_memory_gb(self.args.device)
        return figures if memory is None else figures | {"peak_memory_gb": round(memory, 3)}

    def _checked(self, figures: dict[str, float]) -> dict[str, float]:
        if not math.isfinite(figures["loss"]):
            raise BTCChatError(
                f"the loss is {figures['loss']} at step {self.state.global_step}; lower --learning_rate or "
                "--max_grad_norm, and --resume True goes on from the last checkpoint"
            )
        return figures

    def _save_checkpoint(self, model, trial, metrics=None) -> None:
        self._checked({"loss": self.meter.mean_loss()})
        super()._save_checkpoint(model, trial, metrics)

    def carried(self) -> dict:
        """What a checkpoint carries on: the sums of the log line that is under way, of all processes together."""
        return self.meter.state()

    def carry_on(self, state: dict) -> None:
        """Take over what ``carried`` gave."""
        self.meter.load_state(state, self.is_world_process_zero())

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        state = self.carried()  # every process takes part
        if self.args.should_save:
            write_json(Path(output_dir, METER), state)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is not None:
            self.carry_on(read_json(Path(checkpoint, METER)))
