"""The transformers Trainer, with this project's batches and checkpoints."""

import contextlib
import logging
import math
import shutil
import time
from pathlib import Path

from accelerate.utils import gather_object
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from btcchat.data.loader import Estimate, train_loader
from btcchat.data.stream import StreamMixture
from btcchat.errors import BTCChatError

logger = logging.getLogger(__name__)


class BTCChatTrainer(Trainer):
    """Trains the parts that ``freeze`` left trainable.

    A checkpoint is a folder in the layout of ``BTCChat.save_pretrained`` with the optimizer's state beside it,
    written under another name and then renamed, so a half-written one is never taken for a checkpoint.
    estimate: tokens of a sample by (modality, frames, characters). max_tokens: the most a batch has. Raises
    BTCChatError where the loss is not finite.
    """

    def __init__(self, *args, estimate: Estimate, max_tokens: int | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.estimate, self.max_tokens = estimate, max_tokens
        self.faults: list[str] = []  # samples of this process that could not be made
        self.cut: list[str] = []  # samples of this process that were longer than the model reads
        self._samples, self._since = 0, time.perf_counter()  # since the last log line

    def train(self, *args, **kwargs):
        try:
            return super().train(*args, **kwargs)
        finally:
            self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)  # the model as it was given, no autocast
            for callback in self.callback_handler.callbacks:
                if getattr(callback, "training_bar", None) is not None:
                    callback.training_bar.close()  # so that an error stands on a line of its own

    def get_train_dataloader(self) -> DataLoader:
        if isinstance(self.train_dataset, StreamMixture) and self.args.max_steps <= 0:
            raise BTCChatError("a streamed mixture has no end that is known beforehand; give --max_steps")
        return train_loader(
            self.train_dataset,
            self.data_collator,
            self.estimate,
            batch_size=self.args.train_batch_size,
            max_tokens=self.max_tokens,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
            accumulate=self.args.gradient_accumulation_steps,
            rank=self.args.process_index,
            world=self.args.world_size,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
        )

    def _prepare_inputs(self, inputs: dict) -> dict:
        for fault in inputs.pop("faults", ()):
            logger.warning("left out %s", fault)
            self.faults.append(fault)
        self.cut += inputs.pop("cut", ())
        return super()._prepare_inputs(inputs)

    def tell_faults(self) -> None:
        """Say which samples were left out or cut, on all processes together; each of them must call it."""
        faults, cut = gather_object(self.faults), gather_object(self.cut)
        if not self.is_world_process_zero():
            return
        if faults:
            rows = sorted(set(faults))
            logger.warning("%d times a sample was left out (--bad_samples skip):\n  %s", len(faults), "\n  ".join(rows))
        if cut:
            logger.warning("%d times a sample was cut to the length the model reads, first %s", len(cut), cut[0])

    def compute_loss(self, model, inputs, return_outputs=False):
        self._samples += len(inputs["modalities"]) * self.args.world_size
        output = model(**inputs)
        loss = output.loss
        if not loss.requires_grad:  # e.g. no pair in the batch, and only the change encoder is trained
            loss = loss + sum(p.sum() * 0.0 for p in model.parameters() if p.requires_grad)
        return (loss, output) if return_outputs else loss

    def autocast_smart_context_manager(self, cache_enabled: bool = True):
        return contextlib.nullcontext()  # accelerate has put autocast around the model's forward

    def log(self, logs: dict[str, float]) -> None:
        if not math.isfinite(logs.get("loss", 0.0)):
            raise BTCChatError(
                f"the loss is {logs['loss']} at step {self.state.global_step}; lower --learning_rate or "
                "--max_grad_norm, and --resume True goes on from the last checkpoint"
            )
        now = time.perf_counter()
        if "loss" in logs:
            logs["samples_per_second"] = round(self._samples / (now - self._since), 2)
            self._samples, self._since = 0, now
        super().log(logs)

    def _save(self, output_dir: str | None = None, state_dict=None) -> None:
        self.model.save_pretrained(output_dir or self.args.output_dir)

    def _save_checkpoint(self, model, trial, metrics=None) -> None:
        # What lies at either name is left over from a run that was stopped, or resumed from further back.
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        for stale in (name, f"tmp-{name}"):
            shutil.rmtree(Path(self.args.output_dir, stale), ignore_errors=True)
        super()._save_checkpoint(model, trial, metrics)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        """Nothing: the run was started with the checkpoint's own weights."""
