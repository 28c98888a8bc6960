"""Compare the `attentive` change encoder on all pairs in one batch with a loop over pairs, as in the published code.

    python benchmarks/change_encoder.py                      # 16 pairs at 27x27x1152
    python benchmarks/change_encoder.py --layers 2           # with self-transformer layers
    python benchmarks/change_encoder.py --pairs 2 --grid 3 --width 16 --repeats 1

Times are medians over --repeats runs after a warm-up run. Each figure comes from a process of its own. Peak is the
largest memory in use beyond weights and inputs (CPU: resident memory, read from /proc on Linux; CUDA: torch's
allocator). Encoders are in eval(), where the loop and the batch compute the same numbers.
"""

import argparse
import itertools
import multiprocessing
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from btcchat.change_encoder import build_change_encoder
from btcchat.eval.encoders.machine import machine, memory, reset_peak
from btcchat.eval.encoders.markdown import table

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def batched(encoder: nn.Module, pairs: Tensor) -> Tensor:
    return encoder(pairs)


def looped(encoder: nn.Module, pairs: Tensor) -> Tensor:
    return torch.cat([encoder(pair[None]) for pair in pairs])


def forward(run: Callable, encoder: nn.Module, pairs: Tensor) -> None:
    with torch.no_grad():
        run(encoder, pairs)


def forward_backward(run: Callable, encoder: nn.Module, pairs: Tensor) -> None:
    encoder.zero_grad(set_to_none=True)
    run(encoder, pairs).float().square().mean().backward()


WAYS = {"batched": batched, "loop": looped}
PASSES = {"forward": forward, "forward+backward": forward_backward}


def measure(args: argparse.Namespace, dtype: str, pass_name: str, way: str) -> tuple[float, float | None]:
    """(median seconds, peak MiB); the peak is None where it cannot be read."""
    torch.manual_seed(0)
    device = torch.device(args.device)
    options = {"change_encoder_type": "attentive", "cc_n_layers": args.layers, "cc_head": args.heads}
    encoder = build_change_encoder(options, hidden_size=args.width, grid=args.grid, num_depths=1)
    encoder = encoder.to(device, DTYPES[dtype]).eval()
    pairs = torch.randn(args.pairs, 2, 1, args.grid**2, args.width, device=device, dtype=DTYPES[dtype])
    start_memory = reset_peak(device)
    times = []
    for _ in range(1 + args.repeats):
        start = time.perf_counter()
        PASSES[pass_name](WAYS[way], encoder, pairs)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    peak = None if start_memory is None else memory(device, peak=True) - start_memory
    return statistics.median(times[1:]), peak


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=16, help="pairs in a batch (default 16)")
    parser.add_argument("--grid", type=int, default=27, help="tokens per side (default 27)")
    parser.add_argument("--width", type=int, default=1152, help="channels of a token (default 1152)")
    parser.add_argument("--layers", type=int, default=0, help="self-transformer layers, cc_n_layers (default 0)")
    parser.add_argument("--heads", type=int, default=8, help="attention heads of these layers, cc_head (default 8)")
    parser.add_argument("--repeats", type=int, default=5, help="counted runs (default 5)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    print(
        f"attentive, {args.layers} layers, {args.pairs} pairs at {args.grid}x{args.grid}x{args.width}; "
        f"{machine(torch.device(args.device))}; torch {torch.__version__}\n"
    )
    rows = []
    for dtype, pass_name in itertools.product(DTYPES, PASSES):
        seconds, peaks = {}, {}
        for way in WAYS:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seconds[way], peak = pool.apply(measure, (args, dtype, pass_name, way))
            peaks[way] = "-" if peak is None else f"{peak:.0f}"
        ratio = f"{seconds['loop'] / seconds['batched']:.2f}x"
        rows.append([dtype, pass_name, *(f"{seconds[way]:.3f}" for way in WAYS), ratio, *peaks.values()])
    print(table(["dtype", "pass", "batched s", "loop s", "speed-up", "batched peak MiB", "loop peak MiB"], rows))


if __name__ == "__main__":
    main()
