"""Clocks and counters that wait for the GPU."""

import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from gpu_rows.setting import NotRunError, Setting

GIB = 2**30


def device_of(setting: Setting) -> torch.device:
    """The device of all rows. Raises NotRunError where there is no GPU."""
    if not setting.tiny and not torch.cuda.is_available():
        raise NotRunError("PyTorch finds no CUDA GPU; --tiny tries the script on the CPU")
    torch.set_num_threads(1 if setting.tiny else torch.get_num_threads())
    return torch.device(setting.device)


def waiter(device: torch.device) -> Callable[[], None]:
    """A function that waits until the device is idle."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, from an idle device to an idle device."""
    wait = waiter(device)
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def median_seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median seconds of ``repeats`` calls, after a warm-up call."""
    return statistics.median([seconds_of(work, device) for _ in range(1 + repeats)][1:])


def gemm_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest product of two square random matrices: the peak that this process can reach."""
    best = 0.0
    for size in (4096, 8192) if device.type == "cuda" else (256,):
        first, second = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        seconds = min(seconds_of(lambda: first @ second, device) for _ in range(10))  # noqa: B023
        best = max(best, 2 * size**3 / seconds)
    return best


def flops_of(work: Callable[[], object]) -> int:
    """Floating-point operations of the products, convolutions and attentions that ``work`` computes."""
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=ATTENTIONS) as counter:
        work()
    return int(counter.get_total_flops())


def attention_flops(query, key, value, *unused: object, out_shape: object = None, **options: object) -> int:
    """FLOP of attention, from shapes (B, heads, L, C); torch's own count requires as many key/value as query heads."""
    batch, heads, length, width = query
    return int(2 * batch * heads * length * key[-2] * (width + value[-1]))


ATTENTIONS = {
    getattr(torch.ops.aten, name): attention_flops
    for name in (
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
    )
    if hasattr(torch.ops.aten, name)
}


def peak_line(peak: float) -> str:
    return f"bf16 product in this process: {peak / 1e12:.3g} TFLOP/s"
