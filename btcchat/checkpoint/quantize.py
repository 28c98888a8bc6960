"""``--quantize``: a model's large linear layers in 8 or 4 bits, for inference.

On a CPU: the language model's, and with int8 the vision tower's too. On CUDA: the language model's, by bitsandbytes.
Embeddings, the head, the change encoder and the projector are not quantised.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from btcchat.checkpoint.schema import Quantization, QuantizedKind, QuantizedPart
from btcchat.errors import BTCChatError, choose
from btcchat.language_model.linear import linear_layers
from btcchat.layers.quantized import cpu, cuda
from btcchat.multimodal_encoder.protocol import VisionTowerModule
from btcchat.multimodal_encoder.siglip import SiglipTower

if TYPE_CHECKING:
    from btcchat.model import BTCChatModel

logger = logging.getLogger(__name__)

BITS = {"int8": 8, "int4": 4}
ON_GRID = 0.03  # relative error of int4; weights that were never in 4 bits have 0.06 or more
TOWER = ("int8",)  # kinds that barely change the tower's features (benchmarks/quantize.py)


def check_available(kind: str, device: str) -> None:
    """Raise BTCChatError for an unknown ``kind``, or one that does not run on ``device``."""
    choose("quantize", kind, BITS)
    place = device.partition(":")[0]
    flag = f"--quantize {kind}"
    if place == "cuda":
        cuda.import_bitsandbytes(flag, "use --device cpu")
    elif place != "cpu":
        raise BTCChatError(f"{flag} runs on a CPU or a CUDA GPU, not on {place}; use --device cpu or leave it out")
    elif not cpu.works(kind):
        raise BTCChatError(
            f"{flag}: PyTorch {torch.__version__} has no {kind} matrix product for this CPU; leave it out, or use "
            "--dtype bfloat16 to halve the memory"
        )


def check_stored(stored: Quantization | None, requested: str | None, device: str, path: str | Path | None) -> None:
    """Raise BTCChatError if weights stored as ``stored`` cannot be used as ``requested`` on ``device``."""
    if stored is None:
        return
    kind = stored["kind"]
    if requested not in (None, kind):
        raise BTCChatError(
            f"{path} is already {kind}, but --quantize is {requested}; use the checkpoint it was quantised from"
        )
    if device != "meta":
        if device != "cpu":
            raise BTCChatError(
                f"{path} has {kind} weights, which run only on a CPU; use --device cpu, or --quantize {kind} with the "
                "checkpoint it was quantised from"
            )
        check_available(kind, device)


def make_room(stored: Quantization | None, llm: PreTrainedModel, tower: VisionTowerModule) -> None:
    """Replace layers of the parts, which have no weights yet, by layers that take the ``stored`` weights."""
    if stored is not None:
        _replace_on_cpu(stored["kind"], stored["parts"], llm, tower, loaded=False)


def quantize(model: "BTCChatModel", kind: str, device: str) -> None:
    """Quantise the layers of a loaded model, and move it to ``device``; see `check_available`.

    An adapter is not quantised.
    """
    if model.config.quantization is not None:
        return
    parts: list[QuantizedPart] = ["llm"]
    if device.startswith("cuda"):
        library = cuda.import_bitsandbytes(f"--quantize {kind}", "use --device cpu")
        dtype = model.llm.get_input_embeddings().weight.dtype
        cuda.replace(library, BITS[kind], linear_layers(model.llm), model.llm, dtype)
        model.to(device)
    else:
        if kind in TOWER and isinstance(model.vision_tower, SiglipTower):
            parts.append("vision_tower")
        if kind == "int4":
            _warn_of_grid(linear_layers(model.llm))
        _replace_on_cpu(kind, parts, model.llm, model.vision_tower, loaded=True)
    model.config.quantization = {"kind": cast(QuantizedKind, kind), "parts": parts}


def _warn_of_grid(layers: Mapping[str, nn.Linear]) -> None:
    """Warn if the weights are still close to values of 4 bits, so that int4 rounds back to these."""
    fitting = [layer.weight.detach() for layer in layers.values() if cpu.Int4Linear.fits(layer)]
    errors = [cpu.Int4Linear.error(weight.float()) for weight in fitting[:: max(1, len(fitting) // 8)]]
    if errors and median(errors) < ON_GRID:
        logger.warning(
            "the language model comes from weights of 4 bits, and int4 rounds back to them: what it has learned since "
            "is lost; use --quantize int8"
        )


def check_savable(model: "BTCChatModel") -> None:
    """Raise BTCChatError for weights of bitsandbytes."""
    if model.config.quantization is not None and model.device.type == "cuda":
        raise BTCChatError(
            "a model quantised on a GPU cannot be saved; load it with device='cpu' (btcchat export --quantize)"
        )


def _replace_on_cpu(
    kind: str, parts: Sequence[str], llm: PreTrainedModel, tower: VisionTowerModule, *, loaded: bool
) -> None:
    replace = partial(cpu.replace, kind, loaded=loaded)
    done = replace(linear_layers(llm), llm)
    if "vision_tower" in parts:
        layers = {name: m for name, m in tower.named_modules() if isinstance(m, nn.Linear)}
        done += replace(layers, tower)
    logger.info("%d linear layers quantised to %s", done, kind)
