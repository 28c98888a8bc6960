"""The flags of LoRA and QLoRA, and how a language model is prepared for them."""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from btcchat.checkpoint import adapter
from btcchat.checkpoint.folder import is_language_model, open_folder
from btcchat.checkpoint.hub import resolve
from btcchat.errors import BTCChatError, number
from btcchat.language_model.linear import linear_layers
from btcchat.layers.quantized import cuda
from btcchat.model import BTCChatModel
from btcchat.train.distributed import zero_stage

if TYPE_CHECKING:
    from btcchat.train.training_arguments import TrainingArguments

logger = logging.getLogger(__name__)


@dataclass
class LoraArguments:
    """Train an adapter of the language model instead of its own weights. The defaults are the published ones."""

    lora_enable: bool = field(
        default=False, metadata={"help": "Train a LoRA adapter of the language model; its own weights are frozen."}
    )
    lora_r: int | None = field(default=None, metadata={"help": "Rank of the adapter. Default: 64."})
    lora_alpha: int | None = field(default=None, metadata={"help": "Its scale is alpha / r. Default: 16."})
    lora_dropout: float | None = field(default=None, metadata={"help": "Dropout before it, 0 to 1. Default: 0.05."})
    lora_target_modules: str | None = field(
        default=None, metadata={"help": "Layers it adapts, 'q_proj,v_proj'. Default: every linear layer of the LM."}
    )
    bits: int = field(
        default=16,
        metadata={"help": "4 or 8: quantise the frozen LM to that many bits (QLoRA, on a CUDA GPU); 16: do not."},
    )


DEFAULTS = {"r": 64, "lora_alpha": 16, "lora_dropout": 0.05, "target_modules": None}


def check_lora(args: "TrainingArguments") -> None:
    """Raise BTCChatError for LoRA flags that contradict each other."""
    options = requested_options(args)
    if not args.lora_enable:
        if options or args.bits != 16:
            flag = next(iter(options), "bits")
            raise BTCChatError(f"--{_flag(flag)} has no effect without --lora_enable True")
        return
    if args.tune_language_model:
        raise BTCChatError("--lora_enable and --tune_language_model are both True; train the adapter or the LM itself")
    if args.bits not in (4, 8, 16):
        raise BTCChatError(f"--bits is {args.bits}, expected 4, 8 or 16")
    if args.bits != 16 and zero_stage(args.deepspeed) == 3:
        raise BTCChatError(f"--bits {args.bits} does not work with ZeRO-3, which splits weights; use --deepspeed zero2")
    for name, low, high in (("r", 1, None), ("lora_alpha", 1, None), ("lora_dropout", 0, 1)):
        value = options.get(name, low)
        if value < low or (high is not None and value > high):
            raise BTCChatError(
                f"--{_flag(name)} is {number(value)}, expected {low} " + (f"to {high}" if high else "or more")
            )


def requested_options(args: "TrainingArguments") -> dict[str, Any]:
    """The options of peft's LoraConfig that are set by flags."""
    names = args.lora_target_modules
    options = {
        "r": args.lora_r,
        "lora_alpha": args.lora_alpha,
        "lora_dropout": args.lora_dropout,
        "target_modules": None if names is None else sorted(name.strip() for name in names.split(",")),
    }
    return {name: value for name, value in options.items() if value is not None}


def add_lora(model: BTCChatModel, path: str, args: "TrainingArguments") -> None:
    """Give the language model an adapter, or check that the flags agree with the one it has.

    path: the checkpoint the run starts from, which becomes the adapter's base.
    """
    options = requested_options(args)
    if model.base is None and is_language_model(path):
        raise BTCChatError(
            f"--lora_enable needs a checkpoint to adapt, and {path} is only a language model; train without it first "
            "(the projector, for example), then start from the saved checkpoint"
        )
    if args.bits != 16:
        quantise(model.llm, args.bits, torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else torch.float32)
    if model.base is None:
        options = DEFAULTS | {"target_modules": adapter.linear_names(model.llm)} | options
        adapter.attach(model.llm, **options)
        model.base = adapter.Base.of(path, open_folder(resolve(path)))
    config = model.llm.peft_config[adapter.NAME]
    for name, value in options.items():
        own = getattr(config, name)
        own = sorted(own) if name == "target_modules" else own
        if own != value:
            raise BTCChatError(
                f"--{_flag(name)} is {number(value)}, but the adapter has {number(own)}; leave the flag out"
            )
    modules = ", ".join(sorted(config.target_modules))
    logger.info("LoRA: r %d, alpha %d, on %s", config.r, config.lora_alpha, modules)


def _flag(name: str) -> str:
    return {"r": "lora_r", "target_modules": "lora_target_modules"}.get(name, name)


def quantise(llm: PreTrainedModel, bits: int, dtype: torch.dtype) -> None:
    """Replace the linear layers, except the head, by bitsandbytes' ones; moving them to the GPU quantises them.

    dtype: that of the computation.
    """
    library = cuda.import_bitsandbytes(f"--bits {bits}", "leave the flag out (plain LoRA)")
    cuda.replace(library, bits, linear_layers(llm), llm, dtype)
    setattr(llm, f"is_loaded_in_{bits}bit", True)  # peft picks its layers by this
