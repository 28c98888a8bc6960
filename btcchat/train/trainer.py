"""The transformers Trainer, with this project's batches and checkpoints."""

import contextlib
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader
from transformers import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from btcchat.data.batches import Batching
from btcchat.data.loader import Estimate, train_loader
from btcchat.train.checkpoints import delete, delete_oldest
from btcchat.train.distributed import average_statistics, offloaded, sum_over_processes
from btcchat.train.encoder import TrainingEncoder
from btcchat.train.freeze import Part
from btcchat.train.metered import MeteredTrainer
from btcchat.train.rates import own_rates
from btcchat.train.run_record import write_run_record

logger = logging.getLogger(__name__)


class BTCChatTrainer(MeteredTrainer):
    """Trains the parts that ``freeze`` left trainable.

    A checkpoint is a folder in the layout of ``BTCChat.save_pretrained`` with the optimizer's state beside it,
    written under another name and then renamed, so a half-written one is never taken for a checkpoint.
    estimate: tokens of a sample by (modality, frames, characters). encoder: how frames become features; by default as
    in answers. max_tokens: the most a batch has. parts: what
    ``freeze`` returned; a part may have a learning rate of its own. record: written beside every checkpoint as
    training.json.
    """

    def __init__(
        self,
        *args,
        estimate: Estimate,
        encoder: TrainingEncoder | None = None,
        max_tokens: int | None = None,
        parts: Sequence[Part] = (),
        record: dict | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.estimate, self.max_tokens, self.parts, self.record = estimate, max_tokens, parts, record
        self.encoder = encoder or TrainingEncoder()
        self.faults: list[str] = []  # samples of this process that could not be made
        self.cut: list[str] = []  # samples of this process that were longer than the model reads
        self._waiting: list[dict] = []  # batches of the step that is being collected
        self._weight = 1.0  # of a batch's mean loss in the loss of its step

    def train(self, resume_from_checkpoint: str | None = None, **kwargs):
        """As the Trainer's, but a run that was complete takes no further step: its model is saved, None returned."""
        if resume_from_checkpoint is not None:
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint, "trainer_state.json")))
            if state.global_step >= self.num_steps():  # the Trainer would take one step more
                logger.info("%s is the end of the run already", resume_from_checkpoint)
                self.state = state
                if self.args.should_save:
                    self._save()
                return None
        try:
            return super().train(resume_from_checkpoint, **kwargs)
        finally:
            self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)  # the model as it was given, no autocast
            for callback in self.callback_handler.callbacks:
                if getattr(callback, "training_bar", None) is not None:
                    callback.training_bar.close()  # so that an error stands on a line of its own

    def get_train_dataloader(self) -> DataLoader:
        batching = Batching(
            self.args.train_batch_size,
            max_tokens=self.max_tokens,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
            accumulate=self.args.gradient_accumulation_steps,
            rank=self.args.process_index,
            world=self.args.world_size,
        )
        return train_loader(
            self.train_dataset,
            self.data_collator,
            self.estimate,
            batching,
            num_workers=self.args.dataloader_num_workers,
            persistent_workers=self.args.dataloader_persistent_workers and self.args.dataloader_num_workers > 0,
            prefetch_factor=self._prefetch_factor(),
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
        )

    def _prepare_inputs(self, inputs: dict) -> dict:
        for fault in inputs.pop("faults", ()):
            logger.warning("left out %s", fault)
            self.faults.append(fault)
        self.cut += inputs.pop("cut", ())
        return super()._prepare_inputs(inputs)

    def report_faults(self) -> None:
        """Say which samples were left out or cut, on all processes together; each of them must call it."""
        faults, cut = gather_object(self.faults), gather_object(self.cut)
        if not self.is_world_process_zero():
            return
        if faults:
            rows = sorted(set(faults))
            logger.warning("%d times a sample was left out (--bad_samples skip):\n  %s", len(faults), "\n  ".join(rows))
        if cut:
            logger.warning("%d times a sample was cut to the length the model reads, first %s", len(cut), cut[0])

    def carried(self) -> dict:
        return super().carried() | {"faults": gather_object(self.faults), "cut": gather_object(self.cut)}

    def carry_on(self, state: dict) -> None:
        super().carry_on(state)
        if self.is_world_process_zero():  # one process tells of all
            self.faults, self.cut = state.get("faults", []) + self.faults, state.get("cut", []) + self.cut

    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        if self.args.max_steps > 0:
            return self.args.max_steps
        per_epoch = len(self.get_train_dataloader()) // self.args.gradient_accumulation_steps
        return math.ceil(self.args.num_train_epochs * per_epoch)

    def create_optimizer(self):
        if self.optimizer is None:
            self.optimizer = offloaded(own_rates(super().create_optimizer(), self.parts), self.args)
        return self.optimizer

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        # training_step says when gradients are exchanged. accelerate 0.34 would ask ZeRO-2 not to, which refuses.
        self.accelerator.gradient_state.plugin_kwargs["sync_each_batch"] = True

    def _prefetch_factor(self) -> int | None:
        """Batches a worker reads ahead: together those of a step, which are waited for (see training_step)."""
        workers = self.args.dataloader_num_workers
        return max(2, math.ceil(self.args.gradient_accumulation_steps / workers)) if workers else None

    def training_step(self, model, inputs):
        """Collect the batches of one step, then run them: their loss is the mean over all supervised tokens.

        A mean of each batch's mean would weigh the tokens of a batch of short answers more. So a step is the same
        however its samples are spread over batches and processes. Returns the loss of the step, 0 until it is run.
        """
        self._waiting.append(inputs)
        if not self.accelerator.sync_gradients:
            return torch.zeros((), device=self.args.device)
        batches, self._waiting = self._waiting, []
        supervised = [count_supervised(batch) for batch in batches]
        total = sum_over_processes(sum(supervised), self.args.device).clamp(min=1)
        loss = 0.0
        for number, (batch, tokens) in enumerate(zip(batches, supervised, strict=True), start=1):
            # What the mean over processes, and the one over the accumulated batches, will divide by.
            self._weight = tokens * len(batches) * self.args.world_size / total
            with contextlib.nullcontext() if number == len(batches) else self._no_exchange(model):
                loss = loss + super().training_step(model, batch)
        if not self.is_deepspeed_enabled:
            self._fill_gradients(model)
        return loss

    @staticmethod
    def _fill_gradients(model) -> None:
        """A part of which the step had no sample gets a gradient of zero, as it has with several processes.

        Without one Adam would not count the step for that part, and its next ones would be of another size.
        """
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def _no_exchange(self, model):
        """DDP exchanges gradients with the last batch of a step only; DeepSpeed sees to it itself."""
        return contextlib.nullcontext() if self.is_deepspeed_enabled else self.accelerator.no_sync(model)

    def compute_loss(self, model, inputs, return_outputs=False):
        encoder = self.encoder.with_cached(inputs.get("cached"))
        output = model(**{name: value for name, value in inputs.items() if name != "cached"}, encoder=encoder)
        loss = output.loss * self._weight
        if not loss.requires_grad:  # e.g. no pair in the batch, and only the change encoder is trained
            loss = loss + sum(p.sum() * 0.0 for p in model.parameters() if p.requires_grad)
        return (loss, output) if return_outputs else loss

    def autocast_smart_context_manager(self, cache_enabled: bool = True):
        return contextlib.nullcontext()  # accelerate has put autocast around the model's forward

    def _save(self, output_dir: str | None = None, state_dict=None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        self.model.save_pretrained(folder, state_dict=state_dict)
        if self.record is not None:
            write_run_record(folder, self.record)

    def save_model(self, *args, **kwargs) -> None:
        average_statistics(self.model)  # here, where all processes come; only one of them writes
        super().save_model(*args, **kwargs)

    def _save_checkpoint(self, model, trial, metrics=None) -> None:
        # What lies at either name is left over from a run that was stopped, or resumed from further back.
        with self.args.main_process_first(local=False):
            if self.args.should_save:
                delete(Path(self.args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"))
        super()._save_checkpoint(model, trial, metrics)

    def _rotate_checkpoints(self, use_mtime: bool = False, output_dir: str | None = None) -> None:
        if (self.args.save_total_limit or 0) > 0:
            delete_oldest(Path(output_dir), keep=self.args.save_total_limit)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        """Nothing: the run was started with the checkpoint's own weights."""


def count_supervised(batch: dict) -> int:
    """Tokens of a collated batch that are learned. The first of a sample is predicted from nothing."""
    return int((batch["labels"][:, 1:] >= 0).sum())
