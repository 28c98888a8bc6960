"""bitsandbytes' linear layers for a CUDA GPU: for QLoRA's frozen language model, and for inference."""

import importlib
import logging
from types import ModuleType

import torch
from torch import nn

from btcchat.errors import BTCChatError
from btcchat.layers.quantized import put

OUTLIER = 6.0  # of LLM.int8(): inputs as large as this, which would spoil the scale of their row, are not quantised


def import_bitsandbytes(flag: str, way_out: str) -> ModuleType:
    """The package. flag: what needs it, e.g. --bits 4; way_out: what to do without a GPU. Raises BTCChatError."""
    if not torch.cuda.is_available():
        raise BTCChatError(f"{flag} needs a CUDA GPU, but PyTorch finds none here; {way_out}")
    try:
        return importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise BTCChatError(
            f"{flag} needs the package bitsandbytes, which cannot be imported ({error}); "
            "install it with: pip install bitsandbytes"
        ) from error


def replace(library: ModuleType, bits: int, linear: dict[str, nn.Linear], root: nn.Module, dtype: torch.dtype) -> None:
    """Replace these layers of ``root`` (name -> layer) by those of ``library``, bitsandbytes.

    Weights on the CPU are quantised when they are moved to the GPU; those on a GPU are quantised here.
    dtype: that of the computation. 4 bits are NF4 (Dettmers et al. 2023, arXiv:2305.14314), 8 bits LLM.int8()
    (Dettmers et al. 2022, arXiv:2208.07339).
    """
    if bits == 8:
        logging.getLogger("bitsandbytes.autograd._functions").addFilter(_is_no_cast)
    for name, old in linear.items():
        sizes = (old.in_features, old.out_features, old.bias is not None)
        device, weight = old.weight.device, old.weight.data.cpu()  # bitsandbytes quantises on the way from the CPU
        if bits == 4:
            new = library.nn.Linear4bit(*sizes, device="meta", compute_dtype=dtype, quant_type="nf4")
            new.weight = library.nn.Params4bit(weight, requires_grad=False, quant_type="nf4")
        else:
            new = library.nn.Linear8bitLt(*sizes, device="meta", has_fp16_weights=False, threshold=OUTLIER)
            new.weight = library.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
        new.bias = old.bias
        put(root, name, new if device.type == "cpu" else new.to(device))


def waits(module: nn.Module) -> bool:
    """Whether a layer of ``module`` waits for the GPU: one in 8 bits does, to find its outliers."""
    return any(type(layer).__name__ == "Linear8bitLt" for layer in module.modules())


def _is_no_cast(record: logging.LogRecord) -> bool:
    """bitsandbytes warns in every layer and step that it computes from float16."""
    return "inputs will be cast" not in record.msg
