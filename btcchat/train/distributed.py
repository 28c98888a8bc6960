"""Training in several processes: under torchrun (DDP) or DeepSpeed (ZeRO), on one machine or on many."""

import atexit
import logging
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import TypedDict  # pydantic requires this one on Python < 3.12

from btcchat.assets import resource
from btcchat.compat.extras import require
from btcchat.errors import BTCChatError
from btcchat.files import read_json

if TYPE_CHECKING:
    from btcchat.train.training_arguments import TrainingArguments

logger = logging.getLogger(__name__)


class OffloadConfig(TypedDict, total=False):
    """``offload_optimizer`` of a DeepSpeed config."""

    device: str  # none, cpu or nvme


class ZeroConfig(TypedDict, total=False):
    """The part of ``zero_optimization`` in a DeepSpeed config that this package reads."""

    stage: int
    stage3_gather_16bit_weights_on_model_save: bool
    offload_optimizer: OffloadConfig


class DeepSpeedConfig(TypedDict, total=False):
    """The part of a DeepSpeed config that this package reads. DeepSpeed gets all keys."""

    zero_optimization: ZeroConfig


def deepspeed_config(name: str) -> DeepSpeedConfig:
    """The DeepSpeed config ``name``: a JSON file, or the name of a shipped one (zero2, scripts/zero2.json).

    Raises BTCChatError if there is no such config, if DeepSpeed is missing, or if the run could save only shards.
    """
    require("deepspeed", f"--deepspeed {name}")
    path = Path(name)
    if not path.is_file():
        shipped = {file.stem: file for file in sorted(resource("scripts").glob("zero*.json"))}
        if path.stem not in shipped:
            raise BTCChatError(f"no DeepSpeed config {name}; give a JSON file, or one of {', '.join(shipped)}")
        path = shipped[path.stem]
    config = cast(DeepSpeedConfig, read_json(path, schema=DeepSpeedConfig))
    if not config:
        raise BTCChatError(f"{path} is empty, so DeepSpeed would not be used; leave --deepspeed out, or give zero2")
    zero = config.get("zero_optimization", {})
    if zero.get("stage") == 3 and not zero.get("stage3_gather_16bit_weights_on_model_save"):
        raise BTCChatError(f"{path}: set stage3_gather_16bit_weights_on_model_save to true, or no model can be saved")
    missing = [tool for tool in ("ninja", "g++") if shutil.which(tool) is None]
    if _offloads_optimizer(config) and missing:
        raise BTCChatError(
            f"{path} offloads the optimizer, which DeepSpeed compiles on this machine: install {' and '.join(missing)}"
        )
    return config


def zero_stage(config: DeepSpeedConfig | None) -> int:
    """The ZeRO stage; 0 without ZeRO."""
    return (config or {}).get("zero_optimization", {}).get("stage", 0)


def _offloads_optimizer(config: DeepSpeedConfig) -> bool:
    return config.get("zero_optimization", {}).get("offload_optimizer", {}).get("device", "none") != "none"


def set_single_process_group() -> None:
    """Without a launcher, set the environment of a group with one process, which DeepSpeed needs."""
    if "LOCAL_RANK" not in os.environ:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        group = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ |= {name: str(value) for name, value in group.items()}


def check_processes(args: "TrainingArguments") -> None:
    """Raise BTCChatError if the run was started with too few processes, or on this machine with more than its GPUs."""
    gpus = 0 if args.use_cpu else torch.cuda.device_count()
    if gpus > 1 and args.world_size == 1:
        raise BTCChatError(
            f"one process sees {gpus} GPUs; start one process per GPU (torchrun --nproc_per_node {gpus} -m "
            "btcchat.train.train_mem ...), or let it see only one (CUDA_VISIBLE_DEVICES=0)"
        )
    here = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or 1)  # of torchrun, of deepspeed
    if 0 < gpus < here and args.ddp_backend in (None, "nccl"):  # NCCL fails: "Duplicate GPU detected"
        raise BTCChatError(
            f"{here} processes were started on this machine, but PyTorch finds {gpus} GPU{'s' * (gpus > 1)}, and each "
            f"needs its own; start {gpus} (torchrun --nproc_per_node {gpus} ...), or add --use_cpu True"
        )


def offloaded(optimizer: torch.optim.Optimizer, args: "TrainingArguments") -> torch.optim.Optimizer:
    """``optimizer`` unchanged, or as DeepSpeed's CPU Adam with the same groups if the config offloads it."""
    if not args.deepspeed or not _offloads_optimizer(args.deepspeed):
        return optimizer
    if not isinstance(optimizer, torch.optim.AdamW):
        raise BTCChatError(f"--optim {args.optim} cannot be offloaded to the CPU; choose adamw_torch")
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    torch_only = ("fused", "foreach", "capturable", "differentiable", "maximize", "amsgrad")
    groups = [{key: group[key] for key in group if key not in torch_only} for group in optimizer.param_groups]
    cpu_adam: torch.optim.Optimizer = DeepSpeedCPUAdam(groups)
    return cpu_adam


def sum_over_processes(value: int, device: torch.device) -> torch.Tensor:
    total = torch.tensor(value).to(device, non_blocking=True)
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
    return total


def average_statistics(model: nn.Module) -> None:
    """Give every process the mean of all processes' BatchNorm statistics: each saw only its own batches."""
    if not torch.distributed.is_initialized():
        return
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.training:
            for statistic in (module.running_mean, module.running_var):
                if statistic is not None:  # track_running_stats
                    torch.distributed.all_reduce(statistic)
                    statistic /= torch.distributed.get_world_size()


def end_process(code: int) -> NoReturn:
    """Exit, skipping Python's teardown if the run has several processes.

    The threads of torch's gloo outlive ``destroy_process_group`` (torch 2.13), and one that wakes in the teardown
    aborts a run that has written everything: "terminate called without an active exception", exit code 134.
    """
    joined = torch.distributed.is_initialized()
    if not joined and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        sys.exit(code)
    if code == 0 and joined:
        torch.distributed.destroy_process_group()  # it waits for the others, which may be dead after an error
    atexit._run_exitfuncs()  # loggers such as wandb finish here
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
