"""The transformers Trainer, with this project's batches and checkpoints."""

import contextlib
import logging
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from btcchat.api import BTCChat
from btcchat.checkpoint.weights import NotFiniteError
from btcchat.data.batches import Batching
from btcchat.data.loader import Estimate, train_loader
from btcchat.data.mixture import Mixture
from btcchat.data.mixture.stream import StreamMixture
from btcchat.errors import BTCChatError
from btcchat.model import Output
from btcchat.processor import Batch
from btcchat.train.arguments import TrainingArguments
from btcchat.train.checkpoints import delete, delete_oldest
from btcchat.train.distributed import average_statistics, offloaded, sum_over_processes
from btcchat.train.encoder import TrainingEncoder
from btcchat.train.freeze import ModelPart
from btcchat.train.metered import DIVERGED, MeteredTrainer, RunState
from btcchat.train.rates import own_rates
from btcchat.train.run_record import RunRecord, write_run_record

logger = logging.getLogger(__name__)


class LoadedBatch(Batch, total=False):
    """A batch of `collate_good`, before the Trainer has moved it to the device."""

    faults: list[str]
    cut: list[str]


class BTCChatTrainer(MeteredTrainer):
    """Trains the parts that ``freeze`` left trainable.

    A checkpoint is a folder in the layout of ``BTCChat.save_pretrained``, with the optimizer's state added. It is
    written under another name and then renamed, so a half-written one is never taken for a checkpoint.

    estimate: tokens of a sample by (modality, frames, characters). encoder: how frames become features. max_tokens: the
    most that a batch may have. parts: what ``freeze`` returned; a part may have its own learning rate. record: written
    to every checkpoint as training.json; None in the processes that do not write.
    """

    model: BTCChat
    args: TrainingArguments
    optimizer: torch.optim.Optimizer | None
    train_dataset: Mixture | StreamMixture

    def __init__(
        self,
        model: BTCChat,
        args: TrainingArguments,
        dataset: Mixture | StreamMixture,
        *,
        estimate: Estimate,
        encoder: TrainingEncoder,
        max_tokens: int | None,
        parts: Sequence[ModelPart],
        record: RunRecord | None,
    ) -> None:
        super().__init__(model, args, data_collator=model.processor.collate, train_dataset=dataset)
        self.estimate, self.max_tokens, self.parts, self.record = estimate, max_tokens, parts, record
        self.encoder = encoder
        self.faults: list[str] = []  # samples of this process that could not be made
        self.cut: list[str] = []  # samples of this process that were longer than the model reads
        self._waiting: list[Batch] = []  # the batches collected so far for the next step
        self._weight: Tensor | float = 1.0  # of a batch's mean loss in the loss of its step

    def train(self, resume_from_checkpoint: str | None = None) -> TrainOutput | None:
        """As the Trainer's, but if the run is complete already, save its model and return None without a step."""
        if resume_from_checkpoint is not None:
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint, "trainer_state.json")))
            if state.global_step >= self.num_steps():  # the Trainer would take one step more
                logger.info("%s is the end of the run: nothing is left to train", resume_from_checkpoint)
                self.state = state
                if self.args.should_save:
                    self._save()
                return None
        try:
            return super().train(resume_from_checkpoint)
        finally:
            self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)  # the model as it was given, no autocast
            for callback in self.callback_handler.callbacks:
                if getattr(callback, "training_bar", None) is not None:
                    callback.training_bar.close()  # so that an error starts on a new line

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

    def _prepare_inputs(self, inputs: LoadedBatch) -> Batch:
        for fault in inputs.pop("faults", []):
            logger.warning("left out %s", fault)
            self.faults.append(fault)
        self.cut += inputs.pop("cut", [])
        batch: Batch = super()._prepare_inputs(inputs)
        return batch

    def report_faults(self) -> None:
        """Log which samples were left out or cut in all processes; each process must call it."""
        faults, cut = gather_object(self.faults), gather_object(self.cut)
        if not self.is_world_process_zero():
            return
        if faults:
            logger.warning("%d times a sample was left out (--bad_samples skip):", len(faults))
            for fault in sorted(set(faults)):
                logger.warning("  %s", fault)
        if cut:
            logger.warning("%d times a sample was cut to the length the model reads, first %s", len(cut), cut[0])

    def saved_state(self) -> RunState:
        return {**super().saved_state(), "faults": gather_object(self.faults), "cut": gather_object(self.cut)}

    def restore_state(self, state: RunState) -> None:
        super().restore_state(state)
        if self.is_world_process_zero():  # the lists are those of all processes
            self.faults, self.cut = state.get("faults", []) + self.faults, state.get("cut", []) + self.cut

    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        if self.args.max_steps > 0:
            return int(self.args.max_steps)
        per_epoch = len(self.get_train_dataloader()) // self.args.gradient_accumulation_steps
        return int(math.ceil(self.args.num_train_epochs * per_epoch))

    def create_optimizer(self) -> torch.optim.Optimizer:
        if self.optimizer is None:
            optimizer = own_rates(super().create_optimizer(), self.parts)
            self.optimizer = offloaded(optimizer, self.args)
        return self.optimizer

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        # training_step decides when gradients are exchanged. accelerate 0.34 would disable it, which ZeRO-2 rejects.
        self.accelerator.gradient_state.plugin_kwargs["sync_each_batch"] = True

    def _prefetch_factor(self) -> int | None:
        """Batches that a worker reads ahead: all workers together, those of a step (see training_step)."""
        workers = self.args.dataloader_num_workers
        return max(2, math.ceil(self.args.gradient_accumulation_steps / workers)) if workers else None

    def training_step(self, model: nn.Module, inputs: Batch) -> Tensor:
        """Collect the batches of one step, then run them: their loss is the mean over all supervised tokens.

        So a step is the same however its samples are spread over batches and processes; a mean of the batches' means
        would give more weight to the tokens of a batch with short answers. Returns the loss of the step, and 0 until
        it is run.
        """
        self._waiting.append(inputs)
        if not self.accelerator.sync_gradients:
            return torch.zeros((), device=self.args.device)
        batches, self._waiting = self._waiting, []
        supervised = [count_supervised(batch) for batch in batches]
        total = sum_over_processes(sum(supervised), self.args.device).clamp(min=1)
        losses = []
        for number, (batch, tokens) in enumerate(zip(batches, supervised, strict=True), start=1):
            # The mean over processes and the mean over the accumulated batches will divide by the two counts.
            self._weight = tokens * len(batches) * self.args.world_size / total
            with contextlib.nullcontext() if number == len(batches) else self._no_exchange(model):
                losses.append(super().training_step(model, batch))
        if not self.is_deepspeed_enabled:
            self._fill_gradients(model)
        return sum(losses[1:], start=losses[0])

    @staticmethod
    def _fill_gradients(model: nn.Module) -> None:
        """Give a part without a sample in this step a gradient of zero, as it has with several processes.

        Without one, Adam would not count the step for that part, and the size of its later steps would differ.
        """
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def _no_exchange(self, model: nn.Module) -> AbstractContextManager[None]:
        """DDP must exchange gradients only with the last batch of a step; DeepSpeed does so by itself."""
        if self.is_deepspeed_enabled:
            return contextlib.nullcontext()
        no_sync: AbstractContextManager[None] = self.accelerator.no_sync(model)
        return no_sync

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False
    ) -> Tensor | tuple[Tensor, Output]:
        encoder = self.encoder.with_cached(inputs.get("cached"))
        output = model(**{name: value for name, value in inputs.items() if name != "cached"}, encoder=encoder)
        loss: Tensor = output.loss * self._weight
        if not loss.requires_grad:  # e.g. no pair in the batch, and only the change encoder is trained
            loss = loss + sum(p.sum() * 0.0 for p in model.parameters() if p.requires_grad)
        return (loss, output) if return_outputs else loss

    def autocast_smart_context_manager(self, cache_enabled: bool = True) -> AbstractContextManager[None]:
        return contextlib.nullcontext()  # accelerate has wrapped the model's forward in autocast

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        try:
            self.model.save_pretrained(folder, state_dict=state_dict)
        except NotFiniteError as error:
            raise BTCChatError(f"{error} at step {self.state.global_step}: {DIVERGED}") from error
        if self.record is not None:
            write_run_record(folder, self.record)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        average_statistics(self.model)  # here, because every process calls this method; only one of them writes
        super().save_model(output_dir, _internal_call)

    def _save_checkpoint(self, model: nn.Module, trial: Any, metrics: dict[str, float] | None = None) -> None:
        # A folder with this name is left over from a run that was interrupted, or resumed from an earlier checkpoint.
        with self.args.main_process_first(local=False):
            if self.args.should_save:
                delete(Path(self.args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"))
        super()._save_checkpoint(model, trial, metrics)

    def _rotate_checkpoints(self, use_mtime: bool = False, output_dir: str | None = None) -> None:
        limit = self.args.save_total_limit or 0
        if limit > 0:
            delete_oldest(Path(output_dir or self.args.output_dir), keep=limit)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Load nothing: the run was started with the checkpoint's own weights."""


def count_supervised(batch: Batch) -> int:
    """Tokens of a collated batch that are learned. The first token of a sample is not: nothing precedes it."""
    return int((batch["labels"][:, 1:] >= 0).sum())
