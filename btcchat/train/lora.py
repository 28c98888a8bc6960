"""The flags of LoRA and QLoRA, and a language model made ready for them."""

import logging
from dataclasses import dataclass, field

import torch
from torch import nn

from btcchat.checkpoint import adapter
from btcchat.checkpoint.folder import open_folder
from btcchat.checkpoint.hub import resolve
from btcchat.errors import BTCChatError

logger = logging.getLogger(__name__)


@dataclass
class LoraArguments:
    """An adapter of the language model in place of its own weights. The defaults are the published ones."""

    lora_enable: bool = field(
        default=False, metadata={"help": "Train a LoRA adapter of the language model, whose own weights stay."}
    )
    lora_r: int | None = field(default=None, metadata={"help": "Rank of the adapter. Default: 64."})
    lora_alpha: int | None = field(default=None, metadata={"help": "Its scale is alpha / r. Default: 16."})
    lora_dropout: float | None = field(default=None, metadata={"help": "Dropout before it, 0 to 1. Default: 0.05."})
    lora_target_modules: str | None = field(
        default=None, metadata={"help": "Layers it adapts, 'q_proj,v_proj'. Default: every linear layer of the LM."}
    )
    bits: int = field(
        default=16, metadata={"help": "4 or 8: keep the frozen LM in so many bits (QLoRA, on a CUDA GPU); 16: whole."}
    )


DEFAULTS = {"r": 64, "lora_alpha": 16, "lora_dropout": 0.05, "target_modules": None}


def check_lora(args) -> None:
    """Raise BTCChatError for LoRA flags that cannot be meant together. args: TrainingArguments."""
    given = asked(args)
    if not args.lora_enable:
        if given or args.bits != 16:
            flag = next(iter(given), "bits")
            raise BTCChatError(f"--{_flag(flag)} has no effect without --lora_enable True")
        return
    if args.tune_language_model:
        raise BTCChatError("--lora_enable True and --tune_language_model True: train the adapter or the LM itself")
    if args.bits not in (4, 8, 16):
        raise BTCChatError(f"--bits is {args.bits}, expected 4, 8 or 16")
    if args.bits != 16 and args.deepspeed and args.deepspeed["zero_optimization"]["stage"] == 3:
        raise BTCChatError(f"--bits {args.bits} does not go with ZeRO-3, which splits whole weights; use zero2")
    for name, low, high in (("r", 1, None), ("lora_alpha", 1, None), ("lora_dropout", 0, 1)):
        value = given.get(name, low)
        if value < low or (high is not None and value > high):
            raise BTCChatError(f"--{_flag(name)} is {value}, expected {low} " + (f"to {high}" if high else "or more"))


def asked(args) -> dict:
    """The options of peft's LoraConfig that flags were given for."""
    names = args.lora_target_modules
    targets = None if names is None else sorted(name.strip() for name in names.split(","))
    said = {"r": args.lora_r, "lora_alpha": args.lora_alpha, "lora_dropout": args.lora_dropout}
    return {name: value for name, value in (said | {"target_modules": targets}).items() if value is not None}


def add_lora(model, path: str, args) -> None:
    """Give the language model an adapter, or check that the flags are those of the one it has.

    path: the checkpoint the run starts from, which becomes the adapter's base.
    """
    options = asked(args)
    if args.bits != 16:
        quantise(model.llm, args.bits, torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else torch.float32)
    if model.base is None:
        options = DEFAULTS | {"target_modules": adapter.linear_names(model.llm)} | options
        adapter.attach(model.llm, **options)
        model.base = adapter.Base.of(path, open_folder(resolve(path)))
    has = model.llm.peft_config[adapter.NAME]
    for name, value in options.items():
        own = getattr(has, name)
        own = sorted(own) if name == "target_modules" else own
        if own != value:
            raise BTCChatError(f"--{_flag(name)} is {value}, the adapter has {own}; leave the flag out")
    logger.info("LoRA: r %d, alpha %d, on %s", has.r, has.lora_alpha, ", ".join(sorted(has.target_modules)))


def _flag(name: str) -> str:
    return {"r": "lora_r", "target_modules": "lora_target_modules"}.get(name, name)


def quantise(llm: nn.Module, bits: int, dtype: torch.dtype) -> None:
    """Put bitsandbytes' layers in place of the linear ones, but for the head; moving them to the GPU quantises them.

    dtype: what is computed in. 4 bits are NF4 (Dettmers et al. 2023, arXiv:2305.14314), 8 bits LLM.int8().
    """
    library = _import_bitsandbytes(bits)
    head = llm.get_output_embeddings()
    linear = {name: m for name, m in llm.named_modules() if isinstance(m, nn.Linear) and m is not head}
    for name, old in linear.items():
        if "lora_" in name:
            continue
        sizes = (old.in_features, old.out_features, old.bias is not None)
        if bits == 4:
            new = library.nn.Linear4bit(*sizes, compute_dtype=dtype, quant_type="nf4")
            new.weight = library.nn.Params4bit(old.weight.data, requires_grad=False, quant_type="nf4")
        else:
            new = library.nn.Linear8bitLt(*sizes, has_fp16_weights=False)
            new.weight = library.nn.Int8Params(old.weight.data, requires_grad=False, has_fp16_weights=False)
        new.bias = old.bias
        parent, _, last = name.rpartition(".")
        setattr(llm.get_submodule(parent), last, new)
    setattr(llm, f"is_loaded_in_{bits}bit", True)  # peft picks its layers by this


def _import_bitsandbytes(bits: int):
    if not torch.cuda.is_available():
        raise BTCChatError(f"--bits {bits} needs a CUDA GPU, and PyTorch finds none here; leave it out (plain LoRA)")
    try:
        import bitsandbytes
    except ImportError as fault:
        raise BTCChatError(
            f"--bits {bits} needs the package bitsandbytes, which cannot be imported ({fault}); "
            "install it with: pip install bitsandbytes"
        ) from fault
    return bitsandbytes
