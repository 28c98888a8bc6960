"""The optimizer with its parameter groups, and the schedule of their learning rates."""

import importlib.util
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from transformers import SchedulerType, get_scheduler
from transformers.optimization import Adafactor

from btcchat.errors import BTCChatError, choose
from btcchat.train.distributed import offloaded
from btcchat.train.freeze import ModelPart
from btcchat.train.rates import own_rates
from btcchat.train.training_arguments import TrainingArguments

NORMS = (nn.LayerNorm, nn.GroupNorm, _NormBase)  # the last one: BatchNorm and InstanceNorm
Groups = Iterable[dict[str, Any]]


def build_optimizer(model: nn.Module, args: TrainingArguments, parts: Sequence[ModelPart]) -> torch.optim.Optimizer:
    """The optimizer of the trainable weights: biases and norms do not decay, a part may have its own learning rate."""
    decayed = decayed_parameters(model)
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    groups = [
        {"params": [p for name, p in trainable.items() if name in decayed], "weight_decay": args.weight_decay},
        {"params": [p for name, p in trainable.items() if name not in decayed], "weight_decay": 0.0},
    ]
    optimizer = OPTIMIZERS[args.optim](groups, args)
    return offloaded(own_rates(optimizer, parts), args)


def decayed_parameters(model: nn.Module) -> set[str]:
    """Names of the weights that decay: all but biases and those of norms.

    The published training, with transformers' Trainer, lets BatchNorm decay; its recipes have no decay.
    """
    norms = {name for name, m in model.named_modules() if isinstance(m, NORMS) or "RMSNorm" in type(m).__name__}
    names = (name for name, _ in model.named_parameters())
    return {name for name in names if "bias" not in name and name.rpartition(".")[0] not in norms}


def build_schedule(
    optimizer: torch.optim.Optimizer, args: TrainingArguments, max_steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning-rate schedule. Raises BTCChatError for options that it does not have."""
    try:
        schedule: torch.optim.lr_scheduler.LRScheduler = get_scheduler(
            args.lr_scheduler_type,
            optimizer,
            num_warmup_steps=args.warmup_steps or math.ceil(max_steps * args.warmup_ratio),
            num_training_steps=max_steps,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs or {},
        )
    except (TypeError, ValueError) as error:
        options = f" with --lr_scheduler_kwargs {args.lr_scheduler_kwargs}" if args.lr_scheduler_kwargs else ""
        raise BTCChatError(f"--lr_scheduler_type {args.lr_scheduler_type}{options}: {error}") from None
    return schedule


def check_schedule(args: TrainingArguments) -> None:
    """Raise BTCChatError for an unknown --lr_scheduler_type, or for options that it does not have."""
    choose("value of --lr_scheduler_type", args.lr_scheduler_type, {name.value: name for name in SchedulerType})
    build_schedule(torch.optim.SGD([torch.zeros(1)], lr=args.learning_rate), args, max_steps=1)


def _adam(groups: Groups, args: TrainingArguments, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, fused=fused, **_adam_options(args))


def _adam_options(args: TrainingArguments) -> dict[str, Any]:
    return {"lr": args.learning_rate, "betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}


def _adam_8bit(groups: Groups, args: TrainingArguments, name: str) -> torch.optim.Optimizer:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BTCChatError(f"--optim {args.optim} needs the package bitsandbytes: pip install bitsandbytes")
    import bitsandbytes

    optimizer: torch.optim.Optimizer = getattr(bitsandbytes.optim, name)(groups, **_adam_options(args))
    return optimizer


OPTIMIZERS: dict[str, Callable[[Groups, TrainingArguments], torch.optim.Optimizer]] = {
    "adamw_torch_fused": lambda groups, args: _adam(groups, args, fused=True),
    "adamw_torch": lambda groups, args: _adam(groups, args, fused=False),
    "adafactor": lambda groups, args: Adafactor(
        groups, lr=args.learning_rate, scale_parameter=False, relative_step=False
    ),
    "sgd": lambda groups, args: torch.optim.SGD(groups, lr=args.learning_rate),
    "adamw_8bit": lambda groups, args: _adam_8bit(groups, args, "AdamW8bit"),
    "paged_adamw_8bit": lambda groups, args: _adam_8bit(groups, args, "PagedAdamW8bit"),
}
