"""Which change encoder is the better one? All of them trained alike, on synthetic scenes and on real pairs.

    python benchmarks/compare_encoders.py --jobs 2                 # two seeds of each: some hours on two cores
    python benchmarks/compare_encoders.py --quick                  # one seed, fewer pairs
    python benchmarks/compare_encoders.py --start runs/tiny/1_align --data runs/tiny/data

Every encoder starts fresh on the same tower, projector and language model (those of ``--start``, whose own encoder is
taken out), then sees the same pairs in the same order: what stands at both dates (preset tiny/2_change_encoder), what
changed (tiny/3_llm), and the captions of a subset of LEVIR-CC. Scored with `btcchat eval`: on held-out synthetic pairs
before the real ones are learned, and on the val pairs of the subset.

Intervals are 95 %, over the pairs (drawn again 1,000 times), of the mean over the seeds. What a pair costs is counted
from pixels to the first word: tower, change encoder, projector, and the prompt read by the language model.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import seed_scores
import trials
from btcchat import BTCChat, BTCChatError, request
from dots import dots
from measure import memory, reset_peak
from parse_captions import parse_caption
from rows import table
from seed_scores import Score
from tiny_quality import Tally, score_caption

ENCODERS = ["attentive-0", "attentive-1", "difference_aware", "concat"]
SHORTER = {
    "quick": {"pairs": 500, "heldout": 200, "seeds": 1, "epochs": 4, "evaluations": 2},
    "smoke": {"pairs": 8, "heldout": 6, "seeds": 1, "epochs": 1, "evaluations": 1, "repeats": 1},
}
MEASURES = {  # (of which pairs, measure) -> title
    ("synthetic", "type F1"): "synthetic: type F1",
    ("synthetic", "flags"): "changed or not, %",
    ("real", "changed CIDEr-D"): "real: CIDEr-D of changed pairs",
    ("real", "S*m"): "S*m",
    ("real", "flags"): "changed or not, %",
}
PLOTTED = {
    "change type F1, held-out scenes": ("synthetic", "type F1"),
    "CIDEr-D of changed pairs, LEVIR-CC subset": ("real", "changed CIDEr-D"),
}


def cost(folder: Path, pairs: list[tuple[str, str]], repeats: int) -> dict:
    """What a pair takes from pixels to the first word, in a batch of ``pairs``; in a process of its own."""
    model = BTCChat.from_pretrained(folder)
    records = [request(model.config.caption_question, "pair", pair) for pair in pairs]
    batch = model.processor.collate([model.processor(record, train=False) for record in records])
    del batch["labels"]  # logits, no loss
    seconds, start_memory = [], reset_peak(model.device)
    with torch.no_grad():
        for _ in range(1 + repeats):  # the first is not timed
            begin = time.perf_counter()
            model(**batch)
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begin)
        peak = "-" if start_memory is None else f"{memory(model.device, peak=True) - start_memory:.0f}"
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # its products are all counted
            model(**batch)
    own = sum(counter.get_flop_counts().get("BTCChat.change_encoder", {}).values())
    return {
        "parameters": f"{sum(p.numel() for p in model.change_encoder.parameters()):,}",
        "tokens a pair": sum(model.layout.lengths("pair", 2)),
        "its GFLOP a pair": f"{own / len(pairs) / 1e9:.2f}",
        "GFLOP a pair": f"{counter.get_total_flops() / len(pairs) / 1e9:.2f}",
        "ms a pair": f"{1000 * statistics.median(seconds[1:]) / len(pairs):.1f}",
        "peak MiB": peak,
    }


def costs(out: Path, names: list[str], repeats: int) -> dict[str, dict]:
    """Of 16 held-out pairs, with the minutes that training took, a seed."""
    rows = [json.loads(line) for line in (out / "sets/heldout/pairs.jsonl").read_text().splitlines()[:16]]
    pairs = [tuple(str(out / "sets/heldout" / image) for image in row["images"]) for row in rows]
    found = {}
    for name in names:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[name] = pool.apply(cost, (out / name / "seed-0" / "captions", pairs, repeats))
        seconds = [float(file.read_text()) for file in (out / name).rglob("seconds")]
        found[name]["training, minutes"] = f"{sum(seconds) / 60 / len(list((out / name).iterdir())):.1f}"
    return found


def synthetic_scores(runs: dict[str, list[Path]], heldout: Path) -> dict[str, dict[str, Score]]:
    """Those of `caption_scores`, and "type F1": changes whose kind and direction a caption names."""
    truths = [json.loads(line)["truth"]["changes"] for line in heldout.read_text().splitlines()]
    found = seed_scores.scores_of(runs, list(map(bool, truths)), lambda text: bool(parse_caption(text)))
    for name, folders in runs.items():
        said = [seed_scores.captions_of(run)[1] for run in folders]
        counts = np.array([[type_counts(*pair) for pair in zip(truths, one, strict=True)] for one in said])  # (R, N, 2)
        found[name]["type F1"] = seed_scores.share(counts[..., 0], counts[..., 1], seed_scores.drawn(len(truths)))
    return found


def type_counts(truth: list[dict], text: str) -> tuple[int, int]:
    tally = Tally()
    score_caption(tally, truth, text)
    return tally.right["type F1"], tally.total["type F1"]


def learn(name: str, start: Path, fresh: dict, sets: Path, seed: int, options: argparse.Namespace) -> dict[str, Path]:
    """Train one encoder with one seed; -> the run folders of its scores, on synthetic pairs and on real ones."""
    folder = options.out / name / f"seed-{seed}"
    model = trials.pretrain(start, folder, fresh, sets, options.pairs, seed)
    tuned = trials.finetune(model, folder / "real", sets, seed, options)
    return {
        "synthetic": trials.evaluate(model, "heldout", folder / "eval-synthetic", sets),
        "real": trials.evaluate(tuned, "real:val", folder / "eval-real", sets),
    }


def run(options: argparse.Namespace) -> str:
    """Train and score all; -> the tables, which are also written to OUT, with a plot."""
    out, names = options.out, options.encoders
    sets = trials.describe(out / "sets", options, heldout=options.heldout)
    start = trials.bare(options.start, out / "start")
    flags = trials.encoder_flags(start)
    tasks = [  # seed by seed, so that each is a whole comparison
        (name, start, flags[name], sets, seed, options) for seed in range(options.seeds) for name in names
    ]
    runs = {"synthetic": {name: [] for name in names}, "real": {name: [] for name in names}}
    for (name, *_), done in zip(tasks, trials.together(learn, tasks, options.jobs), strict=True):
        for kind, folder in done.items():
            runs[kind][name].append(folder)
    scores = {"synthetic": synthetic_scores(runs["synthetic"], sets / "heldout/pairs.jsonl")}
    scores["real"] = seed_scores.scores_of(runs["real"])
    spent = costs(out, names, options.repeats)
    cells = {name: {key: scores[key[0]][name][key[1]] for key in MEASURES} for name in names}
    blocks = [
        *options.shorter,
        table(["encoder", *next(iter(spent.values()))], [[name, *spent[name].values()] for name in names]),
        table(["encoder", *MEASURES.values()], [[name, *map(str, cells[name].values())] for name in names]),
    ]
    for name in [name for name in names if name != "concat"] if "concat" in names else ():
        against = [f"{title} {cells[name][key].against(cells['concat'][key])}" for key, title in MEASURES.items()]
        blocks.append(f"{name} less concat: {'; '.join(against)}.")
    blocks.append(
        f"{trials.budget(options)} {options.heldout} held-out synthetic pairs. Costs: float32, batches of 16."
    )
    text = "\n\n".join(blocks)
    trials.write_report(out, "encoders", text, options, costs=spent, scores=scores)
    panels = {title: [cells[name][key].ends for name in names] for title, key in PLOTTED.items()}
    dots(out / "encoders.svg", "Change encoders trained alike, with 95 % intervals", names, panels)
    return text


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    trials.add_options(add, "compare_encoders")
    known = ", ".join(ENCODERS)
    add("--encoders", nargs="+", choices=ENCODERS, default=ENCODERS, metavar="NAME", help=f"of {known} (default all)")
    add("--heldout", type=int, default=400, metavar="N", help="held-out synthetic pairs (default 400)")
    add("--seeds", type=int, default=2, metavar="N", help="trainings of each encoder (default 2)")
    add("--repeats", type=int, default=5, metavar="N", help="timings of a batch (default 5)")
    try:
        print(run(trials.parse(parser, SHORTER, words)))
    except BTCChatError as error:
        sys.exit(f"compare_encoders.py: error: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
