"""The cost of a pair with a trained model, from pixels to the first word: tower, change encoder, projector, prompt."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from typing_extensions import TypedDict  # pydantic accepts no other on Python < 3.12

from btcchat.api import BTCChat
from btcchat.console.children import process_pool
from btcchat.eval.encoders.machine import load_average, machine, memory, reset_peak
from btcchat.layers.packed_linear import flop_formulas
from btcchat.media.frames import Sources
from btcchat.processor import Batch, request

Result = TypeVar("Result")

# Costs of one model. GFLOPs are per pair; "its" are the change encoder's. Peak memory is added by a batch, in MiB.
Cost = TypedDict(
    "Cost",
    {
        "parameters": int,
        "tokens a pair": int,
        "its GFLOP a pair": float,
        "GFLOP a pair": float,
        "peak MiB": float | None,
    },
)


class Timing(TypedDict):
    """Milliseconds per pair of each model, timed alternately in one process, and how busy the machine was."""

    milliseconds: list[float]
    machine: str
    dtype: str
    cores: int | None
    load: list[float | None]  # before and after


def alone(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run ``function(*arguments)`` in a new process, whose memory is not affected by what ran before."""
    with process_pool(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def cost_in(folder: Path, pairs: Sequence[Sources]) -> Cost:
    """The `cost` of the model in ``folder``."""
    return cost(BTCChat.from_pretrained(folder), pairs)


def cost(model: BTCChat, pairs: Sequence[Sources]) -> Cost:
    """The cost of a model on a batch of these pairs."""
    batch = _batch(model, pairs)
    with torch.no_grad():
        model(**batch)  # warm up: allocations of the first call are not counted
        before = reset_peak(model.device)
        model(**batch)
        peak = None if before is None else memory(model.device, peak=True) - before
        counter = FlopCounterMode(display=False, custom_mapping=flop_formulas())
        with counter, sdpa_kernel(SDPBackend.MATH):  # counts all of its products
            model(**batch)
    own = sum(counter.get_flop_counts().get("BTCChat.change_encoder", {}).values())
    return {
        "parameters": sum(parameter.numel() for parameter in model.change_encoder.parameters()),
        "tokens a pair": sum(model.layout.lengths("pair", 2)),
        "its GFLOP a pair": own / len(pairs) / 1e9,
        "GFLOP a pair": counter.get_total_flops() / len(pairs) / 1e9,
        "peak MiB": peak,
    }


def timing(folders: Sequence[Path], pairs: Sequence[Sources], repeats: int) -> Timing:
    """Time batches of these pairs on each model in turn, so that a busy moment slows all of them; take medians."""
    models: list[BTCChat] = []
    for folder in folders:
        model = BTCChat.from_pretrained(folder)
        if models:
            model.llm = models[0].llm  # the weights' values do not affect the time
        models.append(model)
    batches = [_batch(model, pairs) for model in models]
    seconds: list[list[float]] = [[] for _ in models]
    load = [load_average()]
    with torch.no_grad():
        for _ in range(1 + repeats):  # the first one is not counted
            for model, batch, own in zip(models, batches, seconds, strict=True):
                begin = time.perf_counter()
                model(**batch)
                if model.device.type == "cuda":
                    torch.cuda.synchronize()
                own.append(time.perf_counter() - begin)
    return {
        "milliseconds": [1000 * statistics.median(own[1:]) / len(pairs) for own in seconds],
        "machine": machine(models[0].device),
        "dtype": str(models[0].llm.dtype).removeprefix("torch."),
        "cores": os.cpu_count(),
        "load": [*load, load_average()],
    }


def _batch(model: BTCChat, pairs: Sequence[Sources]) -> Batch:
    records = [request(model.config.caption_question, "pair", pair) for pair in pairs]
    batch = model.processor.collate([model.processor(record, train=False) for record in records])
    del batch["labels"]  # logits, no loss
    return batch
