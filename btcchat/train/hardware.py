"""Check for flags that need a GPU this machine does not have; the error says which flags to add."""

from typing import TYPE_CHECKING

import torch
from transformers.utils import is_torch_bf16_gpu_available, is_torch_tf32_available

from btcchat.errors import BTCChatError

if TYPE_CHECKING:
    from btcchat.train.training_arguments import TrainingArguments


def check_hardware(args: "TrainingArguments") -> None:
    """Raise BTCChatError if the flags select a precision that this machine cannot compute in."""
    has_tf32, has_bf16 = is_torch_tf32_available(), is_torch_bf16_gpu_available() and not _emulates_bf16()
    has_gpu = torch.cuda.is_available() or has_bf16
    wrong, add = [], []
    # A CPU computes in bfloat16 too, if --use_cpu selects it or DeepSpeed finds no GPU.
    on_cpu = args.use_cpu or (args.deepspeed and not has_gpu)
    if args.bf16 and not on_cpu and not has_bf16:
        wrong.append("--bf16 True")
        add.append("--bf16 False --fp16 True" if has_gpu else "--use_cpu True")  # an older GPU computes in float16
    if args.tf32 and not has_tf32:
        wrong.append("--tf32 True")
        add.append("--tf32 False")
    if args.fp16 and not args.bf16 and (args.use_cpu or not has_gpu):
        wrong.append("--fp16 True")
        add.append("--fp16 False")
    if wrong and args.bits != 16 and not has_gpu:  # lora.py checks --bits on its own
        wrong.append(f"--bits {args.bits}")
        add.append("--bits 16")
    if wrong:
        if has_gpu and not args.use_cpu:
            problem = f"this GPU cannot compute with {' '.join(wrong)}; add {' '.join(add)}"
        else:
            problem = f"no GPU for {' '.join(wrong)}; to train on the CPU, add {' '.join(add)}"
        raise BTCChatError(problem)


def _emulates_bf16() -> bool:
    """Whether this is a GPU before Ampere, for which torch counts bfloat16 as supported; it is fast in float16."""
    return torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False)
