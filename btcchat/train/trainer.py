"""The training loop: batches, steps, log lines and checkpoints, on accelerate."""

import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import gather_object, send_to_device
from torch import Tensor
from torch.utils.data import DataLoader

from btcchat.api import BTCChat
from btcchat.checkpoint.weights import NotFiniteError
from btcchat.console.progress import Progress
from btcchat.data.batches import Batching
from btcchat.data.loader import EpochLoader, Estimate, train_loader
from btcchat.data.mixture import Mixture
from btcchat.data.mixture.stream import StreamMixture
from btcchat.errors import BTCChatError
from btcchat.files import read_json, write_json
from btcchat.processor import Batch
from btcchat.prompt import IGNORE_INDEX
from btcchat.train.checkpoints import NAME, PART, delete, delete_oldest
from btcchat.train.distributed import average_statistics, sum_over_processes
from btcchat.train.encoder import TrainingEncoder
from btcchat.train.freeze import ModelPart
from btcchat.train.meter import METER, Meter, MeterState, peak_memory_gb
from btcchat.train.optimizer import build_optimizer, build_schedule
from btcchat.train.resume import Resumable
from btcchat.train.run_record import RunRecord, write_run_record
from btcchat.train.run_state import TrainState
from btcchat.train.training_arguments import TrainingArguments

logger = logging.getLogger(__name__)

AT_ONCE = (
    "a part of the model computes it before anything is learned; try float32 (no --bf16 or --fp16), and check the "
    "change encoder if it is yours"
)
DIVERGED = "the training has diverged; start it again with a lower --learning_rate or --max_grad_norm"


class LoadedBatch(Batch, total=False):
    """A batch of `collate_good`."""

    faults: list[str]
    cut: list[str]


class RunCounts(MeterState):
    """meter.json. ``faults`` and ``cut`` are those of all processes."""

    faults: list[str]
    cut: list[str]


class Hook:
    """Code to run at certain points of a training run; add it to ``trainer.hooks``. Every process calls it."""

    def begin(self, trainer: "Trainer") -> None:
        """Before the first step, of a resumed run too."""

    def after_step(self, trainer: "Trainer") -> None:
        """After a step, which ``trainer.state`` counts already; its log line and its checkpoint come later."""

    def after_epoch(self, trainer: "Trainer") -> None:
        """After each pass over the samples, and at the end of the run."""


class Trainer:
    """Trains the parts that ``freeze`` left trainable.

    estimate: tokens of a sample by (modality, frames, characters). encoder: how frames become features. max_tokens: the
    most that a batch may have. parts: what ``freeze`` returned; a part may have its own learning rate. record: written
    to every checkpoint as training.json; None in the processes that do not write.
    """

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
        self.model, self.args, self.train_dataset = model, args, dataset
        self.estimate, self.encoder, self.max_tokens, self.parts, self.record = (
            estimate, encoder, max_tokens, parts, record,
        )  # fmt: skip
        self.accelerator = args.accelerator
        self.wrapped: Any = model  # as accelerate wraps it for several processes
        self.output_dir = Path(args.output_dir)
        self.hooks: list[Hook] = []
        self.stop = False  # a hook sets it to end the run after this step
        self.faults: list[str] = []  # samples of this process that could not be made
        self.cut: list[str] = []  # samples of this process that were longer than the model reads
        self.grad_norm: Tensor | float = math.nan  # of the last step, before clipping; on the device until it is logged
        self.loader = self.get_train_dataloader()
        self.state = TrainState(max_steps=self.num_steps())
        self.meter = Meter(args.device, self.accelerator.gather)
        self.progress = Progress("steps", shown=False)

    # -- the run -------------------------------------------------------------------------------------------------------

    def train(self, checkpoint: Path | None = None) -> bool:
        """Run all steps, from ``checkpoint`` if there is one. Returns False if that is already the end of the run."""
        begin = time.perf_counter()
        if checkpoint is not None:
            self.state = TrainState.read(checkpoint)
            self.state.max_steps = self.num_steps()
            if self.state.global_step >= self.state.max_steps:
                logger.info("%s is the end of the run: nothing is left to train", checkpoint)
                return False
        self._prepare()
        shown = self.args.main_process and not self.args.disable_tqdm
        self.progress = Progress("steps", self.state.max_steps, done=self.state.global_step, shown=shown)
        try:
            if checkpoint is not None:
                self.resumable.load(checkpoint)
                self._restore(cast(RunCounts, read_json(checkpoint / METER, schema=RunCounts)))
            with self.progress:
                self._epochs()
            seconds = round(time.perf_counter() - begin, 4)
            self.log({"train_runtime": seconds, "train_loss": self._finite(round(self.meter.mean_loss(), 6))})
        finally:
            for tracker in self.accelerator.trackers:
                tracker.finish()
            # As it was given, without accelerate's autocast. Its unwrap_model would import DeepSpeed for this.
            for name in ("forward", "_original_forward"):
                vars(self.model).pop(name, None)
        return True

    def _prepare(self) -> None:
        args = self.args
        if args.gradient_checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs)
        self.model.train()
        optimizer = build_optimizer(self.model, args, self.parts)
        self.schedule = build_schedule(optimizer, args, self.state.max_steps)
        self.wrapped, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        self.resumable = Resumable(self.accelerator, self.wrapped, self.optimizer, self.schedule)
        if self.accelerator.log_with:  # --report_to
            names = {"wandb": {"name": args.run_name}} if args.run_name else {}
            self.accelerator.init_trackers("btcchat", config=plain_settings(self.record), init_kwargs=names)

    def _epochs(self) -> None:
        state, args = self.state, self.args
        for hook in self.hooks:
            hook.begin(self)
        while state.global_step < state.max_steps and not self.stop:
            for batches in self._batches(*divmod(state.global_step, self.steps_per_epoch)):
                self._step(batches)
                state.global_step += 1
                state.epoch = state.global_step / self.steps_per_epoch
                self.progress.update()
                if state.global_step == 1:
                    self._finite(self.meter.mean_loss())  # later ones are checked when they are logged
                for hook in self.hooks:
                    hook.after_step(self)
                ended = (
                    state.global_step % self.steps_per_epoch == 0 or state.global_step >= state.max_steps or self.stop
                )
                if ended:
                    # Before the checkpoint of this step: a run that is resumed from it does not come here again.
                    for hook in self.hooks:
                        hook.after_epoch(self)
                if self._is_due(args.logging_strategy, args.logging_steps, ended) or (
                    args.logging_first_step and state.global_step == 1
                ):
                    self._log_steps()
                if self._is_due(args.save_strategy, args.save_steps, ended):
                    self.save_checkpoint()
                if ended:
                    break

    def _is_due(self, strategy: str, steps: float, ended: bool) -> bool:
        """ended: whether this step is the last of an epoch or of the run."""
        every = math.ceil(self.state.max_steps * steps) if steps < 1 else int(steps)
        return ended if strategy == "epoch" else strategy == "steps" and self.state.global_step % max(every, 1) == 0

    # -- batches -------------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader:
        args = self.args
        workers = args.dataloader_num_workers
        batching = Batching(
            args.per_device_train_batch_size,
            max_tokens=self.max_tokens,
            seed=args.seed if args.data_seed is None else args.data_seed,
            accumulate=args.gradient_accumulation_steps,
            rank=args.process_index,
            world=args.world_size,
        )
        return train_loader(
            self.train_dataset,
            self.model.processor.collate,
            self.estimate,
            batching,
            num_workers=workers,
            persistent_workers=args.dataloader_persistent_workers and workers > 0,
            # Read ahead by all workers together: the batches of a step.
            prefetch_factor=max(2, math.ceil(args.gradient_accumulation_steps / workers)) if workers else None,
            pin_memory=args.dataloader_pin_memory and args.device.type == "cuda",
        )

    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        if self.args.max_steps > 0:
            return self.args.max_steps
        return math.ceil(self.args.num_train_epochs * self.steps_per_epoch)

    @property
    def steps_per_epoch(self) -> int:
        """All steps if the samples are streamed, because their number is unknown."""
        if not isinstance(self.loader, EpochLoader):
            return self.args.max_steps
        return len(self.loader) // self.args.gradient_accumulation_steps

    def _batches(self, epoch: int, first: int) -> Iterator[list[LoadedBatch]]:
        """The batches of each step of an epoch, starting at its step ``first``."""
        count = self.args.gradient_accumulation_steps
        if isinstance(self.loader, EpochLoader):
            self.loader.set_epoch(epoch, first * count)
            batches: Iterator[LoadedBatch] = iter(self.loader)
        else:
            batches = islice(self.loader, first * count, None)
        while step := list(islice(batches, count)):
            yield step

    # -- a step --------------------------------------------------------------------------------------------------------

    def _step(self, batches: Sequence[LoadedBatch]) -> None:
        """One step of the optimizer, whose loss is the mean over all supervised tokens of all processes.

        So a step does not depend on how its samples are spread over batches and processes; a mean of the batches'
        means would give more weight to the tokens of a batch with short answers.
        """
        args, losses = self.args, []
        supervised = [count_supervised(batch) for batch in batches]
        total = sum_over_processes(sum(supervised), args.device).clamp(min=1)
        for loaded, tokens in zip(batches, supervised, strict=True):
            batch = self._on_device(loaded)
            # The mean over processes and the mean over the accumulated batches will divide by the two counts.
            weight = tokens * len(batches) * args.world_size / total
            with self.accelerator.accumulate(self.wrapped):
                loss = self._loss(batch) * weight
                self.accelerator.backward(loss)
            losses.append(loss.detach() / len(batches))
        self._clip()
        self._update()
        samples = sum(len(batch["modalities"]) for batch in batches)
        tokens = sum(int((batch["labels"] != IGNORE_INDEX).sum()) for batch in batches)
        self.meter.add(torch.stack(losses).sum(), samples, tokens)

    def _on_device(self, batch: LoadedBatch) -> Batch:
        for fault in batch.pop("faults", []):
            logger.warning("left out %s", fault)
            self.faults.append(fault)
        self.cut += batch.pop("cut", [])
        # Ids, mask and labels stay on the CPU: see merge.
        moved = {name: batch[name] for name in ("frames", "cached", "changed") if name in batch}
        return cast(Batch, batch | send_to_device(moved, self.args.device, non_blocking=True))

    def _loss(self, batch: Batch) -> Tensor:
        """The mean over the batch's supervised tokens."""
        encoder = self.encoder.with_cached(batch.get("cached"), batch.get("changed"))
        inputs = {name: value for name, value in batch.items() if name not in ("cached", "changed")}
        loss: Tensor = self.wrapped(**inputs, encoder=encoder).loss
        if not loss.requires_grad:  # e.g. no pair in the batch, and only the change encoder is trained
            loss = loss + sum(p.sum() * 0.0 for p in self.model.parameters() if p.requires_grad)
        return loss

    def _clip(self) -> None:
        """Clip the gradient to --max_grad_norm, unless DeepSpeed has already done so."""
        if self.args.deepspeed:
            norm = self.wrapped.get_global_grad_norm()
            self.grad_norm = math.nan if norm is None else norm  # DeepSpeed computes none in float32 without ZeRO
            return
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        for parameter in trained:
            # A part without a sample in this step gets a gradient of zero, as it does with several processes. Without
            # it, Adam would not count the step for that part, and its later steps would differ in size.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.grad_norm = self.accelerator.clip_grad_norm_(trained, self.args.max_grad_norm or math.inf)

    def _update(self) -> None:
        """Change the weights, then the learning rate. With --fp16, neither changes if a gradient is not finite."""
        scaler = self.accelerator.scaler
        scale = 0.0 if scaler is None else scaler.get_scale()
        self.optimizer.step()
        # accelerate does not notice that a fused optimizer skipped its step; the scaler lowers its scale after each.
        skipped = self.accelerator.optimizer_step_was_skipped if scaler is None else scaler.get_scale() < scale
        if not skipped:
            self.schedule.step()
        self.optimizer.zero_grad()

    # -- the log -------------------------------------------------------------------------------------------------------

    def _log_steps(self) -> None:
        """A line about the steps since the last one."""
        figures = self.meter.read()
        self._finite(figures["loss"])
        figures |= {
            "grad_norm": round(float(self.grad_norm), 6),
            "learning_rate": float(self.schedule.get_last_lr()[0]),
        }
        for group in self.optimizer.param_groups:
            if "part" in group:  # see own_rates
                figures[f"learning_rate_{group['part']}"] = group["lr"]
        memory = peak_memory_gb(self.args.device)
        self.log(figures if memory is None else figures | {"peak_memory_gb": round(memory, 3)})

    def log(self, figures: Mapping[str, float]) -> None:
        """Store a log line, print it and report it. Every process must call it."""
        line = {**figures, "epoch": round(self.state.epoch, 2)}
        self.state.log_history.append({**line, "step": self.state.global_step})
        if self.args.main_process:
            self.progress.print(str(line), sys.stdout)
        if self.accelerator.trackers:
            named = {_reported(name): value for name, value in line.items()}
            self.accelerator.log(named, step=self.state.global_step)

    def _finite(self, loss: float) -> float:
        if not math.isfinite(loss):
            step = self.state.global_step
            raise BTCChatError(f"the loss is {loss} at step {step}: {AT_ONCE if step == 1 else DIVERGED}")
        return loss

    def report_faults(self) -> None:
        """Log which samples were left out or cut in all processes; each process must call it."""
        faults, cut = gather_object(self.faults), gather_object(self.cut)
        if not self.args.main_process:
            return
        if faults:
            logger.warning("samples left out (--bad_samples skip), repeats included: %d", len(faults))
            for fault in sorted(set(faults)):
                logger.warning("  %s", fault)
        if cut:
            logger.warning("samples cut to the length the model reads, repeats included: %d, e.g. %s", len(cut), cut[0])

    # -- what is saved -------------------------------------------------------------------------------------------------

    def save_model(self, folder: Path) -> None:
        """The model as it is now, and training.json. Every process must call it."""
        average_statistics(self.model)
        split = self.args.deepspeed and self.wrapped is not self.model
        state = self.accelerator.get_state_dict(self.wrapped) if split else None
        if self.args.main_process:
            try:
                self.model.save_pretrained(folder, state_dict=state)
            except NotFiniteError as error:
                raise BTCChatError(f"{error} at step {self.state.global_step}: {DIVERGED}") from error
            if self.record is not None:
                write_run_record(folder, self.record)

    def save_checkpoint(self) -> None:
        """Write checkpoint-N: the model and all that a resumed run needs. It gets its name only when it is complete."""
        self._finite(self.meter.mean_loss())
        folder = self.output_dir / f"{NAME}{self.state.global_step}"
        part = self.output_dir / f"{PART}{self.state.global_step}"
        if self.args.main_process:
            delete(folder)  # left over from a run that was interrupted, or resumed from an earlier checkpoint
            part.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        self.save_model(part)
        self.resumable.save(part)
        counts: RunCounts = {
            **self.meter.state(),
            "faults": gather_object(self.faults),
            "cut": gather_object(self.cut),
        }
        self.accelerator.wait_for_everyone()
        if self.args.main_process:
            write_json(part / METER, counts)
            self.state.write(part)
            part.rename(folder)
            if (self.args.save_total_limit or 0) > 0:
                delete_oldest(self.output_dir, keep=int(self.args.save_total_limit or 0))

    def _restore(self, counts: RunCounts) -> None:
        """Continue with the counts of a checkpoint, which are those of all processes."""
        self.meter.load_state(counts, self.args.main_process)
        if self.args.main_process:
            self.faults, self.cut = [*counts["faults"]], [*counts["cut"]]


def count_supervised(batch: Mapping[str, Any]) -> int:
    """Tokens of a collated batch with a loss. The first token of a sample has none: nothing precedes it."""
    return int((batch["labels"][:, 1:] >= 0).sum())


def plain_settings(record: RunRecord | None) -> dict[str, str | int | float]:
    """The flags and the model's settings, for tensorboard and wandb."""
    settings = {} if record is None else record["flags"] | record["model"]
    return {name: value if isinstance(value, int | float) else str(value) for name, value in settings.items()}


def _reported(name: str) -> str:
    """``eval_S*m`` -> ``eval/S*m``, ``loss`` -> ``train/loss``."""
    return f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"
