"""How a model is trained: the flags of the loop in trainer.py, named as in transformers."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from accelerate import Accelerator

from btcchat.compat.training import prepare_deepspeed
from btcchat.errors import BTCChatError, choose
from btcchat.train.accelerator import build_accelerator
from btcchat.train.distributed import DeepSpeedConfig, deepspeed_config, set_single_process_group
from btcchat.train.hardware import check_hardware
from btcchat.train.json_flag import read_json_flag
from btcchat.train.lora import LoraArguments

if TYPE_CHECKING:  # as `__post_init__` leaves them
    JsonFlag: TypeAlias = dict[str, Any] | None
    ConfigFlag: TypeAlias = DeepSpeedConfig | None
else:  # as the parser reads them
    JsonFlag = ConfigFlag = str | None

STRATEGIES = dict.fromkeys(("no", "steps", "epoch"))  # of logging, saving and evaluation


@dataclass
class TuneArguments:
    """Which parts are trained, and each with which learning rate."""

    tune_vision_tower: bool = field(default=False, metadata={"help": "Train the vision tower."})
    tune_mm_projector: bool = field(default=False, metadata={"help": "Train the projector and the change encoder."})
    tune_cc_projector: bool | None = field(
        default=None, metadata={"help": "Train the change encoder. Default: as --tune_mm_projector."}
    )
    tune_single_projector: bool | None = field(
        default=None, metadata={"help": "Train the projector itself. Default: as --tune_mm_projector."}
    )
    tune_language_model: bool = field(default=False, metadata={"help": "Train the language model."})
    mm_tunable_parts: str | None = field(
        default=None, metadata={"help": "LLaVA-NeXT's flag for these: mm_vision_tower,mm_vision_resampler,..."}
    )
    mm_vision_tower_lr: float | None = field(
        default=None, metadata={"help": "Learning rate of the vision tower. Default: --learning_rate."}
    )
    mm_projector_lr: float | None = field(
        default=None,
        metadata={"help": "Learning rate of the projector and the change encoder. Default: --learning_rate."},
    )
    cc_projector_lr: float | None = field(
        default=None, metadata={"help": "Learning rate of the change encoder. Default: as --mm_projector_lr."}
    )


@dataclass
class EvaluationArguments:
    """What the model answers while it is trained."""

    eval_mixture: str | None = field(
        default=None, metadata={"help": "Data sets that the model answers while it is trained, e.g. levir_cc:val."}
    )
    eval_strategy: str = field(
        default="no",
        metadata={
            "help": "When to evaluate: no, epoch, or steps (every --eval_steps optimizer steps).",
            "aliases": ["--evaluation_strategy"],
        },
    )
    eval_steps: float | None = field(default=None, metadata={"help": "Optimizer steps between two evaluations."})
    metric_for_best_model: str | None = field(
        default=None,
        metadata={"help": "The score that selects OUTPUT_DIR/best. Default: S*m, or the accuracy of answers."},
    )
    i_know_this_is_the_test_split: bool = field(
        default=False, metadata={"help": "Allow a test split in --eval_mixture; every report will mention it."}
    )


@dataclass
class OutputArguments:
    """What a run writes, and when."""

    output_dir: str = field(metadata={"help": "Folder of the model, its checkpoints and its log."})
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Replace what an earlier run left in --output_dir."}
    )
    resume: bool = field(
        default=False, metadata={"help": "Resume from the last complete checkpoint in --output_dir, if there is one."}
    )
    resume_from_checkpoint: str | None = field(default=None, metadata={"help": "The checkpoint-N folder to resume."})
    save_strategy: str = field(
        default="steps", metadata={"help": "When checkpoints are saved: no, epoch, or steps (every --save_steps)."}
    )
    save_steps: float = field(
        default=500, metadata={"help": "Steps between two checkpoints; below 1, a share of all steps."}
    )
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints kept; 0: all."})
    logging_strategy: str = field(default="steps", metadata={"help": "When a line is logged: no, epoch, or steps."})
    logging_steps: float = field(
        default=10, metadata={"help": "Steps between two log lines; below 1, a share of all steps."}
    )
    logging_first_step: bool = field(default=False, metadata={"help": "Log the first step too."})
    logging_dir: str | None = field(
        default=None, metadata={"help": "Folder of what --report_to writes. Default: OUTPUT_DIR/logs."}
    )
    report_to: list[str] = field(
        default_factory=lambda: ["none"], metadata={"help": "Where else logs go: tensorboard, wandb or none."}
    )
    run_name: str | None = field(default=None, metadata={"help": "The run's name in wandb."})
    disable_tqdm: bool = field(default=False, metadata={"help": "Show only log lines, no progress bar."})


@dataclass
class OptimizerArguments:
    """The optimizer's steps: their number, their samples and their size."""

    num_train_epochs: float = field(default=3.0, metadata={"help": "Passes over all samples."})
    max_steps: int = field(default=-1, metadata={"help": "Optimizer steps of the run, instead of epochs."})
    per_device_train_batch_size: int = field(default=8, metadata={"help": "Samples in a batch of one process."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Batches of each process in one step."})
    optim: str = field(
        default="adamw_torch_fused",
        metadata={"help": "adamw_torch_fused, adamw_torch, adafactor, sgd, adamw_8bit or paged_adamw_8bit."},
    )
    learning_rate: float = field(default=5e-5, metadata={"help": "The learning rate after the warm-up."})
    weight_decay: float = field(default=0.0, metadata={"help": "Weight decay of all weights except biases and norms."})
    adam_beta1: float = field(default=0.9, metadata={"help": "Adam's decay of the mean gradient."})
    adam_beta2: float = field(default=0.999, metadata={"help": "Adam's decay of the mean squared gradient."})
    adam_epsilon: float = field(default=1e-8, metadata={"help": "Adam's epsilon."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Clip the gradient to this norm; 0: do not clip."})
    lr_scheduler_type: str = field(
        default="cosine", metadata={"help": "Learning-rate schedule, a name of transformers: cosine, linear, ..."}
    )
    lr_scheduler_kwargs: JsonFlag = field(default=None, metadata={"help": "Further options of the schedule, as JSON."})
    warmup_ratio: float = field(default=0.03, metadata={"help": "Share of the steps in which the learning rate rises."})
    warmup_steps: int = field(default=0, metadata={"help": "Steps in which it rises, instead of --warmup_ratio."})
    seed: int = field(default=42, metadata={"help": "Seed of fresh weights and dropout."})
    data_seed: int | None = field(default=None, metadata={"help": "Seed of the order of the samples. Default: --seed."})


@dataclass
class LossArguments:
    """The loss that is minimised."""

    label_smoothing: float = field(
        default=0.0, metadata={"help": "Share of each target, 0 to 1, that is spread over the whole vocabulary."}
    )
    mask_loss: float = field(
        default=0.0,
        metadata={"help": "Weight of a loss that trains the change map of pairs on the masks of their rows."},
    )


@dataclass
class MachineArguments:
    """Hardware, precision and processes."""

    use_cpu: bool = field(default=False, metadata={"help": "Train on the CPU even if there is a GPU."})
    bf16: bool = field(default=False, metadata={"help": "Compute in bfloat16; the weights stay float32."})
    fp16: bool = field(default=False, metadata={"help": "Compute in float16, for GPUs without bfloat16."})
    tf32: bool = field(default=False, metadata={"help": "Let an Ampere or newer GPU multiply and convolve in TF32."})
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "Recompute each block in the backward pass: less memory, more time."}
    )
    gradient_checkpointing_kwargs: JsonFlag = field(
        default=None, metadata={"help": "Options of torch's checkpoint function, as JSON."}
    )
    dataloader_num_workers: int = field(default=1, metadata={"help": "Processes that read and resize images."})
    dataloader_pin_memory: bool = field(default=True, metadata={"help": "Page-locked batches: faster copies to a GPU."})
    dataloader_persistent_workers: bool = field(default=False, metadata={"help": "Keep the workers between epochs."})
    deepspeed: ConfigFlag = field(
        default=None, metadata={"help": "DeepSpeed config: a JSON file, or zero1, zero2, zero3, zero2_offload, ..."}
    )
    ddp_backend: str | None = field(default=None, metadata={"help": "nccl, gloo, ...; default: the device's."})
    ddp_find_unused_parameters: bool = field(
        default=True, metadata={"help": "Allow steps that do not use every trained weight."}
    )
    ddp_bucket_cap_mb: int = field(default=25, metadata={"help": "MiB of gradients that are exchanged together."})
    ddp_broadcast_buffers: bool = field(
        default=False, metadata={"help": "Take the first process's BatchNorm statistics, not the mean of all."}
    )
    ddp_timeout: int = field(default=1800, metadata={"help": "Seconds that a process waits for the others."})
    local_rank: int = field(default=-1, metadata={"help": "Set by the deepspeed command; the environment decides."})


@dataclass
class TrainingArguments(  # the last one first in --help
    MachineArguments,
    LossArguments,
    OptimizerArguments,
    EvaluationArguments,
    TuneArguments,
    LoraArguments,
    OutputArguments,
):
    """All training flags."""

    def __post_init__(self) -> None:
        for name in ("logging_strategy", "save_strategy", "eval_strategy"):
            choose(f"--{name}", getattr(self, name), STRATEGIES)
        if self.bf16 and self.fp16:
            raise BTCChatError("--bf16 and --fp16 are both True; choose one of them")
        for name in ("lr_scheduler_kwargs", "gradient_checkpointing_kwargs"):
            setattr(self, name, read_json_flag(name, getattr(self, name)))
        if isinstance(self.deepspeed, str) and self.deepspeed:
            if self.use_cpu:
                raise BTCChatError("--deepspeed finds the CPU by itself; leave out --use_cpu, which disables it")
            self.deepspeed = deepspeed_config(self.deepspeed)
            set_single_process_group()
            prepare_deepspeed()
        check_hardware(self)

    @cached_property
    def accelerator(self) -> Accelerator:
        """Devices, processes and precision; the group of processes is joined here."""
        return build_accelerator(self)

    @property
    def device(self) -> torch.device:
        """The process's device. accelerate says cpu:0 in a run of several processes, which torch.load rejects."""
        device: torch.device = self.accelerator.device
        return torch.device("cpu") if device.type == "cpu" else device

    @property
    def process_index(self) -> int:
        """The number of this process, from 0 to ``world_size`` - 1."""
        return int(self.accelerator.process_index)

    @property
    def world_size(self) -> int:
        return int(self.accelerator.num_processes)

    @property
    def main_process(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.process_index == 0

    @property
    def mixed_precision(self) -> str:
        """bf16, fp16 or no."""
        return "bf16" if self.bf16 else "fp16" if self.fp16 else "no"

    @property
    def computes_in(self) -> torch.dtype:
        """What autocast computes in; the weights are float32."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.mixed_precision, torch.float32)

    def autocast(self) -> torch.autocast:
        """The precision of the training, for answers of the model that is trained."""
        mixed = self.computes_in != torch.float32
        return torch.autocast(self.device.type, self.computes_in if mixed else None, enabled=mixed)
