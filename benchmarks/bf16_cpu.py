"""The operators of btcchat/bf16_cpu.py against torch's own: milliseconds in bfloat16 on one core.

    python benchmarks/bf16_cpu.py

Medians over --repeats runs after one that is not counted; error is the largest distance to float32.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from btcchat.bf16_cpu import attention, gelu
from measure import machine
from rows import table

# Name -> (torch's, ours, shapes of the inputs, whether a backward pass follows)
CASES = {
    "gelu, 1 x 729 x 3072": (F.gelu, gelu, [(1, 729, 3072)], False),
    "attention, 729 tokens": (F.scaled_dot_product_attention, attention, [(1, 12, 729, 64)] * 3, False),
    "attention, 16 x 144 tokens, and backward": (
        F.scaled_dot_product_attention,
        attention,
        [(16, 3, 144, 64)] * 3,
        True,
    ),
}


def call(operator: Callable, inputs: list[Tensor]) -> Tensor:
    return operator(*inputs, approximate="tanh") if len(inputs) == 1 else operator(*inputs)


def measure(operator: Callable, shapes: list[tuple], backward: bool, repeats: int) -> tuple[float, float]:
    """Median milliseconds, and the largest distance of the result to float32."""
    torch.manual_seed(0)
    values = [torch.randn(shape).bfloat16() for shape in shapes]
    times = []
    for _ in range(1 + repeats):
        inputs = [value.clone().requires_grad_(backward) for value in values]
        with torch.set_grad_enabled(backward):
            start = time.perf_counter()
            out = call(operator, inputs)
            if backward:
                out.sum().backward()
            times.append(time.perf_counter() - start)
    torchs = F.gelu if len(values) == 1 else F.scaled_dot_product_attention
    exact = call(torchs, [value.float() for value in values])
    return 1000 * statistics.median(times[1:]), float((out.detach().float() - exact).abs().max())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="runs that are counted")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # as in each process of a training on a CPU, and the clearest to compare
    rows = []
    for name, (torchs, ours, shapes, backward) in CASES.items():
        (before, error), (after, own) = (measure(one, shapes, backward, options.repeats) for one in (torchs, ours))
        rows.append((name, f"{before:.1f}", f"{after:.1f}", f"{before / after:.1f}x", f"{error:.3f}", f"{own:.3f}"))
    print(table(["operator", "torch, ms", "ours, ms", "ratio", "torch, error", "ours, error"], rows))
    print(machine(torch.device("cpu")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
