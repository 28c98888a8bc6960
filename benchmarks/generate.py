"""Captions a second of ``btcchat eval`` on a mid-size random model, and what share of the machine each part gets.

    python benchmarks/generate.py                                    # float32 and bf16, batches of 1 to 32
    python benchmarks/generate.py --dtypes bf16 --batches 8 --threads 1
    python benchmarks/generate.py --smoke                            # toy sizes, seconds

SigLIP 768 wide, 12 deep, 384 px, patch 14 (729 tokens an image), `attentive` without layers, `mlp_downsample`; a LLaMA
768 wide, 12 deep, with a feed-forward of 2048 and 32,000 words; a prompt of 60 tokens, 16 new ones. The pairs are files
of 256 x 256 pixels, read, resized, answered and decoded as ``btcchat eval`` does it, one batch size after the other.

Peak is what a product of two square matrices reaches on this machine, in that dtype and with as many threads, at the
best of several sizes. Peak-GFLOP a pair is seconds a pair times peak: what the machine could have computed meanwhile,
which its speed does not move. A part's share of peak is the products it has to compute (counted from the sizes: linear
layers, convolutions, attention) over peak-GFLOP. Each dtype has a process of its own.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path

import torch
import yaml
from PIL import Image

from btcchat import BTCChat, request
from btcchat.data.convert.base import captioned_pair
from btcchat.eval.encoders.machine import machine, memory, reset_peak
from btcchat.eval.encoders.markdown import table
from btcchat.eval.runs.answer import Answering
from btcchat.eval.runs.samples import Sample, read_sets
from btcchat.eval.runs.sweep import batches, sweep
from btcchat.generation import GenerationOptions
from btcchat.synthetic.start import Sizes, init_model, train_tokenizer
from measure import Clock

SIZES = Sizes(
    resolution=384,
    patch=14,
    vision_width=768,
    vision_layers=12,
    vision_heads=12,
    llm_width=768,
    llm_layers=12,
    llm_heads=12,
    llm_hidden=2048,
)
SMALL = Sizes(
    resolution=56, patch=14, vision_width=32, vision_layers=3, vision_heads=2, llm_width=32, llm_layers=2, llm_heads=2
)
VOCABULARY, PROMPT, NEW_TOKENS = 32_000, 60, 16
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
GOALS = {"float32": 550, "bf16": 600}  # peak-GFLOP a pair
PUBLISHED = {"float32": 1110, "bf16": 3850}  # the published code at these sizes, one pair at a time
PARTS = ("vision", "change", "projector", "prefill", "decode")


def build(sizes: Sizes, dtype: torch.dtype) -> BTCChat:
    """Random weights; only words that the tokenizer has are ever said."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_tokenizer(["a house was built in the top left corner ."] * 20, 300, Path(folder))
    encoder = {"change_encoder_type": "attentive", "cc_n_layers": 0}
    model = init_model(tokenizer, sizes, change_encoder=encoder, mm_vision_select_layer=-2)
    model.llm.resize_token_embeddings(VOCABULARY)
    model.llm.get_output_embeddings().weight.data[[*range(3), *range(len(tokenizer), VOCABULARY)]] = 0  # nor an end
    return model.to(dtype).requires_grad_(False)


def peak(dtype: torch.dtype, sizes=(1024, 2048, 4096), repeats: int = 5) -> float:
    """GFLOP/s of the fastest product of two square matrices."""
    best = 0.0
    for size in sizes:
        first, second = (torch.randn(size, size, dtype=dtype) for _ in range(2))
        for _ in range(repeats):
            start = time.perf_counter()
            first @ second
            best = max(best, 2 * size**3 / (time.perf_counter() - start) / 1e9)
    return best


def write_pairs(folder: Path, count: int, question: str) -> list[Sample]:
    """So many pairs as files, and a data set of them that asks ``question``."""
    rows = []
    for number in range(count):
        names = [f"{number}_{date}.png" for date in "ab"]
        for place, name in enumerate(names):
            torch.manual_seed(2 * number + place)
            coarse = torch.randint(256, (8 + number % 9, 8 + number % 9, 3), dtype=torch.uint8)
            Image.fromarray(coarse.numpy()).resize((256, 256)).save(folder / name)
        row = captioned_pair(str(number), *names, ["a house"], 1)
        row["conversations"][0]["value"] = f"<image>\n{question}"
        rows.append(json.dumps(row))
    (folder / "pairs.jsonl").write_text("\n".join(rows))
    (folder / "sets.yaml").write_text(yaml.safe_dump({"pairs": {"annotation": "pairs.jsonl"}}))
    return read_sets("pairs", data_root=folder, folder=folder)[0].samples


def question_of(model: BTCChat) -> str:
    """One that makes a prompt of PROMPT tokens, template and BOS included, images not."""
    blank, question = Image.new("RGB", (8, 8)), "what"
    while len(model.processor(request(question, "pair", [blank, blank]), train=False)["input_ids"]) - 1 < PROMPT:
        question += " a"
    return question


def work(model: BTCChat, sizes: Sizes) -> dict[str, float]:
    """GFLOP a pair of each part: two for each weight and place it is used at, and those of attention."""
    tokens, wide, deep = model.vision_tower.num_tokens, sizes.vision_width, max(model.vision_tower.select_layers)
    segment, llm = model.layout.change_tokens, sizes.llm_width
    block = 12 * tokens * wide**2 + 2 * tokens**2 * wide  # products, of which each counts twice
    layer = 4 * llm**2 + 3 * llm * sizes.llm_hidden  # weights
    read, said, head = PROMPT + segment, NEW_TOKENS - 1, llm * VOCABULARY
    counts = {
        "vision": 2 * (tokens * 3 * sizes.patch**2 * wide + deep * block),
        "change": tokens * wide**2 * (2 + 1 + 9 / 4),
        "projector": segment * (4 * wide * llm + llm**2),
        "prefill": sizes.llm_layers * (read * layer + read**2 * llm) + head,  # half of the attention is masked
        "decode": said * (sizes.llm_layers * (layer + 2 * read * llm) + head),
    }
    return {part: 2 * count / 1e9 for part, count in counts.items()}


def measure(dtype: str, args: argparse.Namespace) -> dict:
    """-> peak (GFLOP/s), GFLOP a pair of each part, and of each batch size seconds, memory and captions."""
    if args.threads:
        torch.set_num_threads(args.threads)
    sizes = SMALL if args.smoke else SIZES
    reached = peak(DTYPES[dtype], (256,) if args.smoke else (1024, 2048, 4096))
    model = build(sizes, DTYPES[dtype])
    clock, found = Clock(model), {}
    with tempfile.TemporaryDirectory() as folder:
        samples = write_pairs(Path(folder), args.pairs, question_of(model))
        for size in args.batches:
            rest = reset_peak(torch.device("cpu"))
            answer(model, batches(samples, size)[:1], 2)  # makes the plans of its kernels
            clock.calls.clear()
            start = time.perf_counter()
            captions = answer(model, batches(samples, size), NEW_TOKENS)
            seconds = {"all": time.perf_counter() - start} | parts(clock)
            found[size] = {
                "seconds": {part: value / len(samples) for part, value in seconds.items()},
                "peak memory": None if rest is None else memory(torch.device("cpu"), peak=True),
                "above": None if rest is None else memory(torch.device("cpu"), peak=True) - rest,
                "captions": captions,
            }
    return {"peak": reached, "work": work(model, sizes), "batches": found, "machine": machine(torch.device("cpu"))}


def answer(model: BTCChat, groups: list[list[Sample]], new_tokens: int) -> dict[str, str]:
    """id -> caption."""
    captions: dict[str, str] = {}
    for _ in sweep(model, groups, [Answering((), captions.update, GenerationOptions(new_tokens))]):
        pass
    return captions


def parts(clock: Clock) -> dict[str, float]:
    names = {"vision_tower": "vision", "change_encoder": "change", "mm_projector": "projector"}
    seconds = dict.fromkeys(PARTS, 0.0)
    for name, value, tokens in clock.calls:
        seconds[names.get(name) or ("prefill" if tokens > 1 else "decode")] += value
    return seconds


def report(dtype: str, found: dict, args: argparse.Namespace) -> str:
    reached, rows, sizes = found["peak"], [], list(found["batches"])
    for size, one in found["batches"].items():
        seconds = one["seconds"]
        shares = [
            f"{seconds[part]:.4f} ({100 * found['work'][part] / (seconds[part] * reached):.0f} %)" for part in PARTS
        ]
        rest = seconds["all"] - sum(seconds[part] for part in PARTS)
        memories = ["-", "-"] if one["above"] is None else [f"{one['peak memory']:.0f}", f"{one['above']:.0f}"]
        numbers = [f"{1 / seconds['all']:.2f}", f"{seconds['all'] * reached:.0f}"]
        rows.append([size, *numbers, *shares, f"{rest:.4f}", *memories])
    head = ["batch", "captions/s", "peak-GFLOP a pair", *PARTS, "rest", "peak MiB", "above model MiB"]
    products = ", ".join(f"{part} {found['work'][part]:.1f}" for part in PARTS)
    lines = [f"{dtype}: peak {reached:.0f} GFLOP/s on {found['machine']}", f"GFLOP a pair: {products}", ""]
    lines += [table(head, rows), "", "parts: seconds a pair (share of peak)"]
    alone = found["batches"][sizes[0]]["captions"]
    for size in sizes[1:]:
        other = [name for name, text in found["batches"][size]["captions"].items() if text != alone[name]]
        lines.append(
            f"batch {size}: {len(alone) - len(other)} of {len(alone)} captions equal those at batch {sizes[0]}"
        )
    best = min(sizes, key=lambda size: found["batches"][size]["seconds"]["all"])
    fastest = found["batches"][best]["seconds"]
    gflop, share = fastest["all"] * reached, 100 * found["work"]["vision"] / (fastest["vision"] * reached)
    lines.append(
        f"best batch {best}: {gflop:.0f} peak-GFLOP a pair (goal {GOALS[dtype]}: {told(gflop <= GOALS[dtype])};"
    )
    lines[-1] += f" published code {PUBLISHED[dtype]}), vision at {share:.0f} % of peak (goal 60: {told(share >= 60)})"
    return "\n".join(lines)


def told(met: bool) -> str:
    return "met" if met else "missed"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    add("--batches", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32], help="batch sizes; the first is compared with")
    add("--pairs", type=int, default=32, help="answered at each batch size")
    add("--threads", type=int, help="threads (default: torch's)")
    add("--smoke", action="store_true", help="toy sizes, to try the script")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    print(f"{args.pairs} pairs, {PROMPT} tokens of prompt, {NEW_TOKENS} new ones; torch {torch.__version__}\n")
    for dtype in args.dtypes:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(report(dtype, pool.apply(measure, (dtype, args)), args), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
