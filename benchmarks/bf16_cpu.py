"""Compare the operators of btcchat/layers/bf16_cpu.py and packed_linear.py with torch's own, in bfloat16 on one core.

The last row is one LLaMA layer of the tiny model's sizes under autocast, with torch's attention and with transformers'
"eager" one, which training uses in bfloat16 on a CPU (btcchat/language_model).

    python benchmarks/bf16_cpu.py

Times are medians over --repeats runs after a warm-up run; errors are the largest distance to float32.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaModel

from btcchat.eval.encoders.machine import machine
from btcchat.eval.encoders.markdown import table
from btcchat.layers.bf16_cpu import attention, gelu
from btcchat.layers.packed_linear import PackedLinear, packs


def llama(attention: str) -> Callable[[Tensor], Tensor]:
    """Embeddings (B, N, 192) -> hidden states, in bfloat16 if the embeddings are."""
    sizes = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 1, "num_attention_heads": 3}
    torch.manual_seed(0)
    model = LlamaModel(LlamaConfig(**sizes, vocab_size=2, attn_implementation=attention))

    def run(embeds: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=embeds.dtype == torch.bfloat16):
            return model(inputs_embeds=embeds, use_cache=False)[0]

    return run


def linear_gelu(pack: bool) -> Callable[[Tensor], Tensor]:
    """The first half of a block's MLP; with ``pack``, as the tower computes it if this CPU and torch allow it."""
    torch.manual_seed(0)
    layer, packed = torch.nn.Linear(768, 3072).bfloat16().requires_grad_(False), PackedLinear()

    def run(x: Tensor) -> Tensor:
        if pack and packs(x, [layer]):
            return packed(x, layer, gelu="tanh")
        return F.gelu(F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype)), approximate="tanh")

    return run


# Name -> (torch's, ours, shapes of the inputs, whether a backward pass follows)
CASES = {
    "gelu, 1 x 729 x 3072": (
        partial(F.gelu, approximate="tanh"),
        partial(gelu, approximate="tanh"),
        [(1, 729, 3072)],
        False,
    ),
    "linear and gelu, 1 x 729 x 768 to 3072": (linear_gelu(False), linear_gelu(True), [(1, 729, 768)], False),
    "attention, 729 tokens": (F.scaled_dot_product_attention, attention, [(1, 12, 729, 64)] * 3, False),
    "attention, 16 x 144 tokens, and backward": (
        F.scaled_dot_product_attention,
        attention,
        [(16, 3, 144, 64)] * 3,
        True,
    ),
    "LLaMA layer, 8 x 200 tokens, and backward": (llama("sdpa"), llama("eager"), [(8, 200, 192)], True),
}


def measure(
    operator: Callable, exact: Callable, shapes: list[tuple], backward: bool, repeats: int
) -> tuple[float, float]:
    """Median milliseconds, and the largest distance of the result to that of ``exact`` in float32."""
    torch.manual_seed(0)
    values = [torch.randn(shape).bfloat16() for shape in shapes]
    times = []
    for _ in range(1 + repeats):
        inputs = [value.clone().requires_grad_(backward) for value in values]
        with torch.set_grad_enabled(backward):
            start = time.perf_counter()
            out = operator(*inputs)
            if backward:
                out.sum().backward()
            times.append(time.perf_counter() - start)
    with torch.no_grad():
        error = (out.float() - exact(*(value.float() for value in values))).abs().max()
    return 1000 * statistics.median(times[1:]), float(error)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="counted runs (default 15)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # as in each process of a training run on a CPU, and with the least noise
    rows = []
    for name, (torchs, ours, shapes, backward) in CASES.items():
        (before, error), (after, own) = (
            measure(one, torchs, shapes, backward, options.repeats) for one in (torchs, ours)
        )
        rows.append((name, f"{before:.1f}", f"{after:.1f}", f"{before / after:.1f}x", f"{error:.3f}", f"{own:.3f}"))
    print(table(["operator", "torch, ms", "ours, ms", "ratio", "torch, error", "ours, error"], rows))
    print(machine(torch.device("cpu")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
