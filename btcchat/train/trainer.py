"""The transformers Trainer, with this project's batches and checkpoints."""

import contextlib
import math
import shutil
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from btcchat.data.batches import GroupedBatches
from btcchat.errors import BTCChatError


class BTCChatTrainer(Trainer):
    """Trains the parts that ``freeze`` left trainable.

    A checkpoint is a folder in the layout of ``BTCChat.save_pretrained`` with the optimizer's state beside it,
    written under another name and then renamed, so a half-written one is never taken for a checkpoint.
    lengths: tokens of each training sample. Raises BTCChatError where the loss is not finite.
    """

    def __init__(self, *args, lengths, **kwargs):
        super().__init__(*args, **kwargs)
        self.lengths = lengths
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
        batches = GroupedBatches(
            self.lengths,
            self.args.train_batch_size,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
            accumulate=self.args.gradient_accumulation_steps,
            rank=self.args.process_index,
            world=self.args.world_size,
        )
        return EpochLoader(
            self.train_dataset,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
            generator=torch.Generator(),  # of its own: the model's random numbers do not depend on the loader
        )

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


class EpochLoader(DataLoader):
    """A DataLoader that tells its batch sampler the epoch."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)
