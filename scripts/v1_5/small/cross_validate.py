"""Choose a configuration on the training scenes of fold 0, freeze it, and cross-validate it over all scenes.

    python scripts/v1_5/small/cross_validate.py DATA PARTS OUT [--device cuda --jobs 8 --seconds 240]

DATA: a folder of LEVIR-CC with masks (images/*/label). PARTS: what offline_parts.py wrote. OUT/runs.jsonl gets a line
for each training with its configuration, times and captions; the same command resumes an interrupted run. report.py
writes the tables.

1. Selection: every row of CANDIDATES is trained on some scenes of fold 0's training pairs and scored on the rest
   (``inner``), by greedy and by beam search; with the second seed too if the first took less than EARLY of the time.
   The best by CRITERION, a mean over the seeds, is frozen.
2. Cross-validation: four folds of whole scenes, two seeds, `attentive` and `concat` trained alike.
3. The same with clues of the change statistics, scored with true, shuffled and no clues.

What has not begun when ``--seconds`` are over is left out.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "examples" / "efficientnet_tower")]
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np  # noqa: E402
import torch  # noqa: E402

import efficientnet_tower  # noqa: E402, F401 - registers the tower
from btcchat.eval.captions.counts import bleu_scores  # noqa: E402
from btcchat.eval.captions.ngrams import NGramScorer  # noqa: E402
from btcchat.eval.captions.presets import levir_cc  # noqa: E402
from clues import make_clues  # noqa: E402
from dataset import Pair, make_folds, read_pairs, scene_groups  # noqa: E402
from features import STAGES, pooled, read_masks, write_features  # noqa: E402
from learn import (  # noqa: E402
    Bench,
    Config,
    best_level,
    captions,
    distances,
    fresh_model,
    map_counts,
    map_outcomes,
    train,
)  # fmt: skip

FOLDS, SEEDS, INNER = 4, (0, 1), 4
EARLY = 0.4
PLAIN = Config()
MASK = replace(PLAIN, mask=1.0)
DEEP = replace(MASK, stages=(5, 7))
CANDIDATES = {
    "plain": PLAIN,
    "mask": MASK,
    "two depths": DEEP,
    "two depths, slower": replace(DEEP, rate=1e-4, part_rate=5e-4),
    "two depths, longer": replace(DEEP, epochs=14),
    "two depths, aligned first": replace(DEEP, align=3),
    "two depths, smoothed and averaged": replace(DEEP, smoothing=0.1, average=True),
    "two depths, slower, longer, smoothed and averaged": replace(
        DEEP, rate=1e-4, part_rate=5e-4, epochs=14, smoothing=0.1, average=True
    ),
    "two depths, LoRA": replace(DEEP, lora=32, rate=1e-3),
    "two depths, no views": replace(DEEP, views=False),
}
CRITERION = "CIDEr-D of the changed pairs plus the mean of BLEU-4, ROUGE-L and CIDEr-D of all pairs"


def main(words: list[str] | None = None) -> int:
    options = parse(words)
    begin = time.monotonic()
    options.deadline = begin + options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    options.cache = options.cache or options.out
    options.cache.mkdir(parents=True, exist_ok=True)
    two_depths(options)
    pairs = chosen_pairs(options)
    with multiprocessing.get_context("spawn").Pool(options.jobs, start, (options,)) as pool:
        folds = make_folds(pairs, scene_groups(pairs), FOLDS)  # while the workers load the parts
        say(options, begin, f"{len(pairs)} pairs in folds of {', '.join(str(len(fold)) for fold in folds)}")
        left = options.deadline - time.monotonic()
        say(options, begin, pool.apply_async(prepare).get(timeout=min(left, 1e6)))
        done = {row["id"]: row for row in read_rows(options)}
        for tasks in stages(options, pairs, folds, done):
            waiting = [task for task in tasks if task["id"] not in done]
            results = pool.imap_unordered(work, waiting)
            for _ in waiting:
                try:
                    row = results.next(timeout=min(1e6, max(1.0, options.deadline - time.monotonic())))
                except multiprocessing.TimeoutError:
                    say(options, begin, "the time is over: what has not been trained is left out")
                    pool.terminate()
                    return 3
                if row.get("late"):
                    continue
                append(options, row)
                if "error" not in row:
                    done[row["id"]] = row
                score = "" if "error" in row else f"{quick_score(pairs, row['rows'], row['captions']):.1f}"
                times = f"trained {row.get('seconds')} s, answered {row.get('answer seconds')} s"
                say(options, begin, row.get("trace") or f"{row['id']}: {score}, {times}")
    return 0


def parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("data", type=Path)
    add("parts", type=Path)
    add("out", type=Path)
    add("--device", default="cpu", help="cpu (default) or cuda")
    add("--jobs", type=int, default=1, help="training runs at once (default 1)")
    add("--cache", type=Path, help="folder for the tower's features, 2 GB; default: OUT")
    add("--seconds", type=float, default=1e9, help="limit of the whole run")
    add("--tiny", action="store_true", help="few pairs, one epoch, two candidates, one fold: a test of the script")
    return parser.parse_args(words)


# -- in the workers ----------------------------------------------------------------------------------------------------

BENCH: Bench
OPTIONS: argparse.Namespace
FAULT: Exception | None = None  # why this worker has no BENCH


def start(options: argparse.Namespace) -> None:
    global BENCH, OPTIONS, FAULT
    if options.device == "cuda" or options.jobs > 1:
        torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    OPTIONS = options
    try:
        BENCH = Bench(two_depths(options), options.parts / "llm", chosen_pairs(options), options.device)
    except Exception as error:  # noqa: BLE001 - a pool would start another worker, and another, for ever
        FAULT = error


def prepare() -> str:
    """Write features.npy, and OUT/pooled.npy for the baseline of nearest neighbours."""
    if FAULT is not None:
        raise FAULT
    features = write_features(BENCH.pairs, BENCH.base, OPTIONS.cache / "features.npy", OPTIONS.device)
    if not (OPTIONS.out / "pooled.npy").is_file():
        np.save(OPTIONS.out / "pooled.npy", pooled(features[0]).astype(np.float16))
    return f"features {features.shape}"


def work(task: dict[str, Any]) -> dict[str, Any]:
    """One training and its answers; a fault becomes a row with ``error``."""
    if time.monotonic() > OPTIONS.deadline:
        return {"id": task["id"], "late": True}
    try:
        if FAULT is not None:
            raise FAULT
        return learn_and_answer(task)
    except Exception as error:  # noqa: BLE001 - the other training runs continue, and the row says what happened
        return {**task, "error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}


def learn_and_answer(task: dict[str, Any]) -> dict[str, Any]:
    if BENCH.features is None:
        BENCH.attach(np.load(OPTIONS.cache / "features.npy", mmap_mode="r"), read_masks(BENCH.pairs))
    config, seed, rows, train_rows = Config(**task["config"]), task["seed"], task["rows"], task["train"]
    config = replace(config, stages=tuple(config.stages))
    begin = time.perf_counter()
    clues = make_clues(BENCH, train_rows, rows, config, seed) if config.clues else None
    model = fresh_model(BENCH, config, seed)
    found: dict[str, Any] = {**task, **train(model, BENCH, train_rows, config, seed, clues)}
    found["clue seconds"] = round(time.perf_counter() - begin - found["seconds"], 1)
    begin = time.perf_counter()
    if clues is None:
        found["captions"] = captions(model, BENCH, rows, config)
    else:
        own = [clues[row] for row in rows]
        mixed = np.random.default_rng(seed).permutation(own).tolist()
        found["clues"] = own
        found["captions"] = captions(model, BENCH, rows, config, own)
        found["captions, shuffled clues"] = captions(model, BENCH, rows, config, mixed)
        found["captions, no clues"] = captions(model, BENCH, rows, config)
    if task["stage"] == "selection":
        found["captions, 3 beams"] = captions(model, BENCH, rows, replace(config, beams=3))
    level = best_level(map_counts(distances(model, BENCH, train_rows, config), BENCH.masks[train_rows]))
    counts = map_counts(distances(model, BENCH, rows, config), BENCH.masks[rows])
    found |= {
        "level": level,
        "map": map_outcomes(counts, level),
        "answer seconds": round(time.perf_counter() - begin, 1),
    }
    return found


# -- what is trained ---------------------------------------------------------------------------------------------------


def stages(
    options: argparse.Namespace, pairs: list[Pair], folds: list[list[int]], done: dict[str, dict[str, Any]]
) -> Iterator[list[dict[str, Any]]]:
    """The training runs of each step, most wanted first; a step is asked for when the one before has been done."""
    outer = sorted(set(range(len(pairs))) - set(folds[0]))
    own = [pairs[row] for row in outer]
    inner = [outer[i] for i in make_folds(own, scene_groups(own), INNER, seed=1)[0]]
    rest = sorted(set(outer) - set(inner))
    candidates = dict(list(CANDIDATES.items())[:2]) if options.tiny else CANDIDATES
    for seed in SEEDS:
        if seed == SEEDS[0] or options.deadline - time.monotonic() > (1 - EARLY) * options.seconds:
            yield [
                task(options, f"selection, {name}, seed {seed}", "selection", config, seed, rest, inner)
                for name, config in candidates.items()
            ]
    chosen = choose(options, pairs, done)
    everything = []
    for seed in SEEDS[: 1 if options.tiny else None]:
        for clues in (False, True):
            for encoder in ("attentive", "concat") if not clues else ("attentive",):
                for number, fold in enumerate(folds[: 1 if options.tiny else None]):
                    config = replace(chosen, encoder=encoder, clues=clues)
                    others = sorted(set(range(len(pairs))) - set(fold))
                    name = f"{encoder}{' with clues' if clues else ''}, seed {seed}, fold {number}"
                    everything.append(task(options, name, "clues" if clues else "folds", config, seed, others, fold))
    # Both seeds of the encoders come before the clues.
    yield sorted(everything, key=lambda one: one["stage"] == "clues")


def task(
    options: argparse.Namespace,
    name: str,
    stage: str,
    config: Config,
    seed: int,
    train_rows: list[int],
    rows: list[int],
) -> dict[str, Any]:
    if options.tiny:
        config, train_rows, rows = replace(config, epochs=1, batch=4), train_rows[::3], rows[::2]
    return {"id": name, "stage": stage, "config": asdict(config), "seed": seed, "train": train_rows, "rows": rows}


def choose(options: argparse.Namespace, pairs: list[Pair], done: dict[str, dict[str, Any]]) -> Config:
    """The best candidate, by greedy or by beam search; OUT/chosen.json keeps it, and no later run changes it."""
    file = options.out / "chosen.json"
    if not file.is_file():
        scores: dict[tuple[str, int], list[float]] = {}
        configs = {}
        for row in done.values():
            if row["stage"] == "selection":
                name = row["id"].removeprefix("selection, ").rpartition(", seed")[0]
                configs[name] = row["config"]
                for beams, texts in ((1, row["captions"]), (3, row["captions, 3 beams"])):
                    scores.setdefault((name, beams), []).append(quick_score(pairs, row["rows"], texts))
        if not scores:
            sys.exit("no candidate could be trained; log.txt says why")
        both = max(len(own) for own in scores.values())
        means = {key: float(np.mean(own)) for key, own in scores.items() if len(own) == both}
        name, beams = max(means, key=lambda key: means[key])
        table = {f"{key}, {number} beam{'s' * (number > 1)}": round(value, 2) for (key, number), value in means.items()}
        found = {"criterion": CRITERION, "seeds": both, "scores": table, "chosen": name}
        text = json.dumps({**found, "config": {**configs[name], "beams": beams}}, indent=1)
        file.write_text(text + "\n", encoding="utf-8")
    config = json.loads(file.read_text(encoding="utf-8"))["config"]
    return replace(Config(**config), stages=tuple(config["stages"]))


def quick_score(pairs: list[Pair], rows: list[int], texts: list[str]) -> float:
    """CRITERION, without METEOR, which needs Java."""
    said = [(levir_cc([text])[0], tuple(levir_cc(pairs[row].captions))) for text, row in zip(texts, rows, strict=True)]
    scorer, everything = NGramScorer(said), list(range(len(rows)))
    changed = [number for number in everything if pairs[rows[number]].changed]
    bleu = float(bleu_scores(scorer.bleu(everything).sum(0))[3])
    all_pairs = (bleu + scorer.rouge_l(everything).mean() + scorer.cider_d(everything).mean()) / 3
    return float(100 * (scorer.cider_d(changed).mean() + all_pairs))


# -- files -------------------------------------------------------------------------------------------------------------


def chosen_pairs(options: argparse.Namespace) -> list[Pair]:
    pairs = read_pairs(options.data)
    return pairs[::16] if options.tiny else pairs


def two_depths(options: argparse.Namespace) -> Path:
    """The tower's folder with STAGES in its config; the weights are those of PARTS/tower."""
    source, folder = options.parts / "tower", options.parts / f"tower-{'tiny' if options.tiny else 'stages'}"
    if not (folder / "config.json").is_file():
        folder.mkdir(exist_ok=True)
        config = json.loads((source / "config.json").read_text(encoding="utf-8")) | {"stages": STAGES}
        if options.tiny:
            config["image_size"] = 96
        link = folder / "model.safetensors"
        if not link.exists():
            link.symlink_to((source / "model.safetensors").resolve())
        (folder / "config.json").write_text(json.dumps(config) + "\n", encoding="utf-8")
    return folder


def read_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    file = options.out / "runs.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return [row for line in lines if "error" not in (row := json.loads(line))]


def append(options: argparse.Namespace, row: dict[str, Any]) -> None:
    with (options.out / "runs.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def say(options: argparse.Namespace, begin: float, text: str) -> None:
    line = f"{time.monotonic() - begin:6.1f} s  {text}"
    print(line, flush=True)
    with (options.out / "log.txt").open("a", encoding="utf-8") as file:
        file.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
