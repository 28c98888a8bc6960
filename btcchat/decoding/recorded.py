"""CUDA graphs: a GPU repeats steps of the decoding loop without Python.

Python needs about 1 ms to launch one layer on one token, several times what a GPU needs to compute it. A CUDA graph
repeats a recorded sequence of launches with the same shapes and addresses. So a step here has one of a few shapes: rows
are rounded up to a power of two, and columns to a multiple of COLUMNS. The excess is masked.
"""

import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from btcchat.compat.decoding import takes_finished_masks
from btcchat.layers.key_value_cache import KeyValueCache
from btcchat.layers.quantized.cuda import waits

logger = logging.getLogger(__name__)

COLUMNS = 128

Weights: TypeAlias = tuple[int, ...]  # their addresses

_idle: "weakref.WeakKeyDictionary[nn.Module, RecordedCache]" = weakref.WeakKeyDictionary()  # by model
_failed: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()  # models whose steps could not be recorded
_lock = threading.RLock()  # garbage collection may give a cache back in the thread that holds it


def lend_cache(owner: object, decoder: nn.Module) -> "RecordedCache | None":
    """A cache for answers of ``decoder`` that records its steps, or None if that is not possible.

    It is lent until ``owner`` is garbage-collected; then its memory and graphs are kept for the next owner. Under
    autocast none is lent: steps are not recorded there, and the cache would keep the dtypes of autocast.
    """
    if torch.is_autocast_enabled() or not can_record(decoder):
        return None
    # Tensors created in inference mode cannot be written to outside of it.
    weights = (torch.is_inference_mode_enabled(), *(parameter.data_ptr() for parameter in decoder.parameters()))
    with _lock:
        cache = _idle.pop(decoder, None)
    if cache is None or cache.weights != weights:
        cache = RecordedCache(weights)
    # `is True`: transformers' models have a method of this name.
    cache.bypassed = any(getattr(layer, "disable_adapters", None) is True for layer in decoder.modules())
    weakref.finalize(owner, _give_back, cache, weakref.ref(decoder)).atexit = False
    return cache


def can_record(decoder: nn.Module) -> bool:
    """Whether all weights are complete and on one GPU, no layer waits for it, and transformers takes finished masks."""
    weights = list(decoder.parameters())
    on_gpu = {weight.device.type for weight in weights} == {"cuda"} and len({weight.device for weight in weights}) == 1
    if not on_gpu or hasattr(weights[0], "ds_id") or decoder in _failed:
        return False
    return takes_finished_masks() and not waits(decoder)


def _give_back(cache: "RecordedCache", of: "weakref.ref[nn.Module]") -> None:
    decoder = of()
    if decoder is None or decoder in _failed or not cache.is_whole:
        return
    with torch.inference_mode():  # the cache may have been created in it
        while cache.lengths:  # answers that were abandoned
            cache.remove(len(cache.lengths) - 1)
    with _lock:
        _idle[decoder] = cache


class RecordedCache(KeyValueCache):
    """A cache that computes steps in a few shapes, and records each shape the second time it occurs.

    weights: the addresses that the graphs read. bypassed: whether peft's adapter is switched off, which changes the
    launches, not the addresses. An empty cache keeps its size, as graphs also hold its own addresses.
    """

    def __init__(self, weights: Weights = ()) -> None:
        super().__init__()
        self.weights, self.bypassed = weights, False
        self._steps: dict[tuple[bool, int, int], _Step] = {}  # by bypassed, rows and columns

    def reserve(self, rows: int, columns: int) -> None:
        before, rows = (self.rows, self.columns), _power_of_two(len(self.lengths) + rows)
        columns = _multiple(columns)
        if not self.lengths and self.keys and rows <= self.rows and columns <= self.columns:
            self._promised = columns
            return
        super().reserve(rows - len(self.lengths), columns)
        if before != (self.rows, self.columns):
            self._steps = {}

    def extend(self, decoder: nn.Module, inputs_embeds: Tensor) -> Tensor:
        if decoder in _failed or decoder.training or torch.is_autocast_enabled():
            return super().extend(decoder, inputs_embeds)
        hidden = None
        try:
            hidden = self._step(decoder, inputs_embeds)
        except RuntimeError as fault:  # e.g. too little memory, or a layer that waits for the GPU
            logger.warning("decoding is slower: its steps cannot be recorded as CUDA graphs (%s)", _first_line(fault))
            _failed.add(decoder)
            self._steps = {}
        if hidden is None:  # not in `except`, where the traceback keeps the memory of the failed step
            return super().extend(decoder, inputs_embeds)
        self.lengths = [length + 1 for length in self.lengths]
        self._written = list(map(max, self._written, self.lengths))
        return hidden

    def _step(self, decoder: nn.Module, inputs_embeds: Tensor) -> Tensor:
        """The hidden states of `extend`, by the step of their shape."""
        count = len(self.lengths)
        rows, columns = _power_of_two(count), _multiple(max(self.lengths) + 1)
        size = self.bypassed, rows, columns
        if size not in self._steps:
            self._steps[size] = _Step(inputs_embeds, rows)
        step = self._steps[size]
        step.inputs[:count] = inputs_embeds
        step.ends.copy_(torch.tensor([*self.lengths, *[0] * (rows - count)]))
        return step(lambda: self._extend_at(decoder, step.inputs, step.ends, columns))[:count]

    def _extend_at(self, decoder: nn.Module, inputs_embeds: Tensor, ends: Tensor, columns: int) -> Tensor:
        """One more token, at column ``ends`` (n,) of the first n rows: (n, 1, D) -> hidden states (n, 1, D).

        The first ``columns`` are read. Nothing here waits for the GPU.
        """
        rows, column = len(ends), torch.arange(columns, device=ends.device)
        self._place = (torch.arange(rows, device=ends.device), slice(None), ends)
        self._count, self._before = rows, columns - 1
        mask = inputs_embeds.new_zeros(rows, columns)
        mask = mask.masked_fill(column > ends[:, None], torch.finfo(mask.dtype).min)
        with _masked_attention(decoder):
            return self._run(decoder, inputs_embeds, mask[:, None, None], ends[:, None])


class _Step:
    """A step of one shape: computed as usual the first time, which prepares all kernels, then recorded."""

    def __init__(self, like: Tensor, rows: int) -> None:
        self.inputs = like.new_zeros(rows, 1, like.shape[-1])
        self.ends = torch.zeros(rows, dtype=torch.long, device=like.device)
        self.is_first = True
        self.graph: torch.cuda.CUDAGraph | None = None
        self.hidden = self.inputs  # (rows, 1, D), where the graph writes it

    def __call__(self, compute: Callable[[], Tensor]) -> Tensor:
        """The result of ``compute`` for ``inputs`` and ``ends``, valid until the next call."""
        if self.inputs.device.type != "cuda" or self.is_first:
            self.is_first = False
            return compute()
        if self.graph is None:
            graph = torch.cuda.CUDAGraph()
            # thread_local: other threads may do other CUDA work meanwhile, e.g. pin memory.
            with (
                torch.cuda.device(self.inputs.device),
                torch.cuda.graph(graph, capture_error_mode="thread_local"),
            ):
                self.hidden = compute()
            self.graph = graph
        self.graph.replay()
        return self.hidden


@contextmanager
def _masked_attention(decoder: Any) -> Iterator[None]:
    """Use torch's attention instead of flash-attention, which accepts no finished mask."""
    name = decoder.config._attn_implementation
    if not str(name).startswith("flash"):
        yield
        return
    decoder.config._attn_implementation = "sdpa"
    try:
        yield
    finally:
        decoder.config._attn_implementation = name


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _multiple(columns: int) -> int:
    return -(-columns // COLUMNS) * COLUMNS


def _first_line(fault: Exception) -> str:
    return (str(fault).strip().splitlines() or [type(fault).__name__])[0]
