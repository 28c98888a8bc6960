"""Captions per second of ``btcchat eval`` on a mid-size random model, compared with the published evaluator.

    python benchmarks/generate.py                                    # float32 and bf16, batches of 1 to 32
    python benchmarks/generate.py --dtypes bf16 --batches 8 --threads 1 --as-published
    python benchmarks/generate.py --smoke                            # toy sizes, takes seconds

The model: SigLIP of width 768, 12 layers, 384 px, patch 14 (729 tokens per image), `attentive` without layers,
`mlp_downsample`, and a LLaMA of width 768 with 12 layers, a feed-forward of 2048 and 32,000 words. Prompts have 60
tokens besides those of the images, answers 16. The pairs are files of 256 x 256 pixels, which are read, resized,
answered and decoded as in ``btcchat eval``.

In each turn a product of two square matrices is timed, then all pairs are answered at every batch size and, with
--as-published, also the published way with the same weights (as_published.py), and with --int8 by a quantised copy. All
figures are medians over turns; ratios and shares are computed within a turn. The first turn is not counted.

A part's share of peak is the number of operations that it needs (linear layers, convolutions and attention, counted
from the sizes) divided by what the square product would compute in the same time. Each dtype runs in a process of its
own. --clock cpu counts CPU seconds instead of wall-clock seconds, for a machine that is also used by others.
"""

import argparse
import copy
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import yaml
from PIL import Image

from as_published import AsPublished
from btcchat import BTCChat, prompt, request
from btcchat.checkpoint.quantize import quantize
from btcchat.data.convert.base import captioned_pair
from btcchat.eval.encoders.machine import load_average, machine, memory, reset_peak
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
GOALS = {"float32": 2.0, "bf16": 4.0}  # captions/s of the best batch, relative to the published way
SHARES = {"vision": 55, "prefill": 50}  # percent of peak, bf16
AS_PUBLISHED, INT8 = "as published", "int8, "
INT8_GOAL = 6.0  # captions/s of int8 relative to the published way
PARTS = ("vision", "change", "projector", "prefill", "decode")


def build(sizes: Sizes, dtype: torch.dtype) -> BTCChat:
    """A model of random weights that writes only words of its tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = [prompt.render([prompt.Turn("user", [""])]), "a house was built in the top left corner ."]
        tokenizer = train_tokenizer(corpus * 20, 400, Path(folder))
    encoder = {"change_encoder_type": "attentive", "cc_n_layers": 0}
    model = init_model(tokenizer, sizes, change_encoder=encoder, mm_vision_select_layer=-2)
    model.llm.resize_token_embeddings(VOCABULARY)
    unused = [*range(3), *range(len(tokenizer), VOCABULARY)]  # the first three include the end of an answer
    model.llm.get_output_embeddings().weight.data[unused] = 0
    return model.to(dtype).requires_grad_(False)


def peak(dtype: torch.dtype, size: int, now: Callable[[], float], repeats: int = 3) -> float:
    """GFLOP/s of a product of two square matrices, the fastest of ``repeats``."""
    first, second = (torch.randn(size, size, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(repeats):
        start = now()
        first @ second
        seconds.append(now() - start)
    return 2 * size**3 / min(seconds) / 1e9


def write_pairs(folder: Path, count: int, question: str) -> list[Sample]:
    """Write ``count`` pairs as files, and a data set of them that asks ``question``."""
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
    """A question whose prompt has exactly PROMPT tokens, with template and BOS, without images."""
    blank, question = Image.new("RGB", (8, 8)), "what"

    def tokens() -> int:
        ids = model.processor(request(question, "pair", [blank, blank]), train=False)["input_ids"]
        return int((ids != prompt.IMAGE_TOKEN_INDEX).sum())

    while tokens() < PROMPT:
        question += " a"
    assert tokens() == PROMPT, f"the shortest prompt has {tokens()} tokens, expected {PROMPT}"
    return question


def work(model: BTCChat, sizes: Sizes) -> dict[str, float]:
    """GFLOP per pair of each part: two per weight and use of it, plus those of attention."""
    tokens, wide, deep = model.vision_tower.num_tokens, sizes.vision_width, max(model.vision_tower.select_layers)
    segment, llm = model.layout.change_tokens, sizes.llm_width
    block = 12 * tokens * wide**2 + 2 * tokens**2 * wide  # multiply-adds, each of which counts twice
    layer = 4 * llm**2 + 3 * llm * sizes.llm_hidden  # weights
    read, written, head = PROMPT + model.layout.change_segments * segment, NEW_TOKENS - 1, llm * VOCABULARY
    cached = sum(read + 1 + number for number in range(written))  # keys that all decoding steps attend to
    counts = {
        "vision": 2 * (tokens * 3 * sizes.patch**2 * wide + deep * block),
        "change": tokens * wide**2 * (2 + 1 + 9 / 4),
        "projector": model.layout.change_segments * segment * (4 * wide * llm + llm**2),
        "prefill": sizes.llm_layers * (read * layer + read**2 * llm) + head,  # half of the attention is masked
        "decode": sizes.llm_layers * (written * layer + 2 * cached * llm) + written * head,
    }
    return {part: 2 * count / 1e9 for part, count in counts.items()}


def measure(dtype: str, args: argparse.Namespace) -> dict:
    """-> GFLOP per pair of each part, and for each turn its peak (GFLOP/s) and the seconds of each way."""
    if args.threads:
        torch.set_num_threads(args.threads)
    now = time.perf_counter if args.clock == "wall" else time.process_time
    sizes = SMALL if args.smoke else SIZES
    model = build(sizes, DTYPES[dtype])
    if args.int8:
        quantised = copy.deepcopy(model)
        quantize(quantised, "int8", "cpu")
    clock, turns = Clock(model, now=now), []
    with tempfile.TemporaryDirectory() as folder:
        samples = write_pairs(Path(folder), args.pairs, question_of(model))
        ways: dict[str, Callable] = {f"batch {size}": partial(ask, model, size) for size in args.batches}
        if args.int8:
            ways |= {f"{INT8}batch {size}": partial(ask, quantised, size) for size in args.batches}
        if args.as_published:
            ways[AS_PUBLISHED] = AsPublished(model)
        for _ in range(1 + args.turns):
            turn: dict = {"peak": peak(DTYPES[dtype], 256 if args.smoke else 2048, now), "load": load_average()}
            for name, way in ways.items():
                clock.calls.clear()
                reset_peak(torch.device("cpu"))
                start = now()
                captions = way(samples, NEW_TOKENS)
                seconds = {"all": now() - start} | parts(clock)
                turn[name] = {
                    "seconds": {part: value / len(samples) for part, value in seconds.items()},
                    "memory": memory(torch.device("cpu"), peak=True),
                    "captions": captions,
                }
            turns.append(turn)
    return {"turns": turns[1:], "work": work(model, sizes), "ways": list(ways), "machine": machine(torch.device("cpu"))}


def ask(model: BTCChat, size: int, samples: list[Sample], new_tokens: int) -> dict[str, str]:
    """Captions by id, as ``btcchat eval`` makes them."""
    captions: dict[str, str] = {}
    for _ in sweep(model, batches(samples, size), [Answering((), captions.update, GenerationOptions(new_tokens))]):
        pass
    return captions


def parts(clock: Clock) -> dict[str, float]:
    names = {"vision_tower": "vision", "change_encoder": "change", "mm_projector": "projector"}
    seconds = dict.fromkeys(PARTS, 0.0)
    for name, value, tokens in clock.calls:
        seconds[names.get(name) or ("prefill" if tokens > 1 else "decode")] += value
    return seconds


def report(dtype: str, found: dict, args: argparse.Namespace) -> str:
    turns = found["turns"]
    int8 = [way for way in found["ways"] if way.startswith(INT8)]
    ours = [way for way in found["ways"] if way not in (AS_PUBLISHED, *int8)]

    def median(value: Callable[[dict], float]) -> float:
        return statistics.median(value(turn) for turn in turns)

    def seconds(turn: dict, way: str, part: str = "all") -> float:
        return turn[way]["seconds"][part]

    def share(way: str, part: str) -> float:
        return median(lambda turn: 100 * found["work"][part] / (seconds(turn, way, part) * turn["peak"]))

    def ratio(way: str) -> float:
        return median(lambda turn: seconds(turn, AS_PUBLISHED) / seconds(turn, way))

    rows = []
    for way in found["ways"]:
        whole = median(lambda turn, way=way: seconds(turn, way))
        cells = [way, f"{1 / whole:.3f}", f"{ratio(way):.2f}x" if args.as_published else "-"]
        for part in PARTS:
            took = median(lambda turn, way=way, part=part: seconds(turn, way, part))
            cells.append(f"{took:.3f} ({share(way, part):.0f} %)" if way in ours else "-")
        rows.append([*cells, f"{max(turn[way]['memory'] or 0 for turn in turns):.0f}"])
    peaks = sorted(turn["peak"] for turn in turns)
    products = ", ".join(f"{part} {found['work'][part]:.1f}" for part in PARTS)
    lines = [
        f"{dtype}: square product {statistics.median(peaks):.0f} GFLOP/s ({peaks[0]:.0f} to {peaks[-1]:.0f})",
        f"on {found['machine']}; load {', '.join(str(turn['load']) for turn in turns)}",
        f"GFLOP a pair: {products}",
        "",
        table(["way", "captions/s", "over published", *PARTS, "peak MiB"], rows),
        "",
        "parts: seconds a pair (share of the square product)",
    ]
    alone = turns[-1][ours[0]]["captions"]
    for way in found["ways"]:
        same = sum(turns[-1][way]["captions"][name] == text for name, text in alone.items())
        lines.append(f"{way}: {same} of {len(alone)} captions equal those of {ours[0]}") if way != ours[0] else None
    best = min(ours, key=lambda way: median(lambda turn: seconds(turn, way)))
    if args.as_published:
        lines.append(f"best, {best}: {ratio(best):.2f}x the published way (goal {GOALS[dtype]}x: ")
        lines[-1] += f"{verdict(ratio(best) >= GOALS[dtype])})"
    if args.as_published and args.int8:
        fastest = max(int8, key=ratio)
        line = f"best, {fastest}: {ratio(fastest):.2f}x the published way (goal {INT8_GOAL}x: "
        lines.append(f"{line}{verdict(ratio(fastest) >= INT8_GOAL)})")
    for part, goal in SHARES.items():
        result = f" (goal {goal} %: {verdict(share(best, part) >= goal)})" if dtype == "bf16" else ""
        lines.append(f"{part} at {share(best, part):.0f} % of the square product{result}")
    return "\n".join(lines)


def verdict(met: bool) -> str:
    return "met" if met else "missed"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    add(
        "--batches",
        nargs="+",
        type=int,
        default=[1, 2, 4, 8, 16, 32],
        help="batch sizes; captions are compared with those of the first",
    )
    add("--pairs", type=int, default=32, help="pairs answered each way in each turn (default 32)")
    add("--turns", type=int, default=5, help="counted turns (default 5)")
    add("--as-published", action="store_true", help="also answer the published way")
    add("--int8", action="store_true", help="also answer with --quantize int8")
    add("--threads", type=int, help="threads (default: torch's)")
    add(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="seconds to count (default wall; cpu only with --threads 1)",
    )
    add("--smoke", action="store_true", help="toy sizes, to try the script")
    args = parser.parse_args(argv)
    if args.clock == "cpu" and args.threads != 1:
        parser.error("--clock cpu would count threads that are waiting; add --threads 1")
    return args


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    about = f"{args.pairs} pairs, {PROMPT} tokens of prompt, {NEW_TOKENS} new ones"
    print(f"{about}; torch {torch.__version__}; {args.clock} seconds\n")
    for dtype in args.dtypes:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(report(dtype, pool.apply(measure, (dtype, args)), args), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
