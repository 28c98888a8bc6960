"""The Accelerator of a run: its device and processes, their precision, DeepSpeed or DDP."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import DeepSpeedPlugin, GradientAccumulationPlugin, ProjectConfiguration

from btcchat.compat.training import build_models_whole, forget_accelerator

if TYPE_CHECKING:
    from btcchat.train.training_arguments import TrainingArguments

REPORTS = ("tensorboard", "wandb")


def build_accelerator(args: "TrainingArguments") -> Accelerator:
    """A new Accelerator for this run, even if an earlier run in this process had one."""
    forget_accelerator()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.tf32
    # accelerate from 1.0 starts several processes on CPUs only if `cpu` is True.
    on_cpu = args.use_cpu or not torch.accelerator.is_available()
    backend = args.ddp_backend or ("gloo" if on_cpu and args.deepspeed else None)
    group: dict[str, Any] = {} if backend is None else {"backend": backend}
    handlers = [
        InitProcessGroupKwargs(timeout=timedelta(seconds=args.ddp_timeout), **group),
        DistributedDataParallelKwargs(
            find_unused_parameters=args.ddp_find_unused_parameters,
            bucket_cap_mb=args.ddp_bucket_cap_mb,
            broadcast_buffers=args.ddp_broadcast_buffers,
        ),
    ]
    # DeepSpeed itself defers the exchange of gradients to a step's last batch, and rejects accelerate doing so too.
    accumulation = GradientAccumulationPlugin(
        num_steps=args.gradient_accumulation_steps, sync_each_batch=bool(args.deepspeed)
    )
    reports = [name for name in args.report_to if name in REPORTS]
    logs = args.logging_dir or str(Path(args.output_dir, "logs"))
    accelerator = Accelerator(
        cpu=args.use_cpu if args.deepspeed else on_cpu,
        mixed_precision=args.mixed_precision,
        gradient_accumulation_plugin=accumulation,
        deepspeed_plugin=_deepspeed(args) if args.deepspeed else None,
        kwargs_handlers=handlers,
        log_with=reports or None,
        project_config=ProjectConfiguration(project_dir=args.output_dir, logging_dir=logs),
    )
    if args.deepspeed:
        build_models_whole()
    return accelerator


def _deepspeed(args: "TrainingArguments") -> DeepSpeedPlugin:
    """The config with "auto" replaced by this run's sizes; accelerate fills in those that depend on the model."""
    config: dict[str, Any] = {**(args.deepspeed or {})}
    own = {
        "train_micro_batch_size_per_gpu": args.per_device_train_batch_size,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "gradient_clipping": args.max_grad_norm,
    }
    config |= {name: value for name, value in own.items() if config.get(name, "auto") == "auto"}
    # We build the optimizer ourselves, on the CPU too: see distributed.offloaded.
    config |= {"zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False}
    return DeepSpeedPlugin(hf_ds_config=config, zero3_init_flag=False)
