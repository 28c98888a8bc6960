"""One training and its evaluation, kept in the folder of its seed; and several of them at once.

OUT/ENCODER/seed-N/settings.json    what the training depends on, and its seconds once it is finished
OUT/ENCODER/seed-N/model            the trained model, with training.json
OUT/ENCODER/seed-N/eval             the run folder of `btcchat eval`
"""

import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch

from btcchat.api import BTCChat
from btcchat.eval.encoders.plan import ComparedEncoder, ComparisonPlan, differing, identity
from btcchat.eval.runs.evaluate import Plan, evaluate
from btcchat.eval.runs.folder import METRICS, RUN, RunFolder
from btcchat.eval.runs.ranks import Ranks
from btcchat.eval.runs.record import run_record
from btcchat.eval.runs.samples import asked, read_sets
from btcchat.files import read_json, write_json
from btcchat.generation import GenerationOptions
from btcchat.train.presets import to_argv
from btcchat.train.train_mem import run as train

logger = logging.getLogger(__name__)

SETTINGS, MODEL = "settings.json", "model"
LONGEST, BATCH = 128, 16  # new tokens, and samples at a time, as in `btcchat eval`

Result = TypeVar("Result")


def seed_folder(plan: ComparisonPlan, encoder: ComparedEncoder, seed: int) -> Path:
    return plan.out / encoder.folder / f"seed-{seed}"


def trained_seconds(folder: Path) -> float | None:
    """How long the finished training in a seed's folder took; None where there is none."""
    path = folder / SETTINGS
    seconds: float | None = read_json(path).get("seconds") if path.is_file() else None
    return seconds


def missing(plan: ComparisonPlan, shared: Mapping[str, Any]) -> tuple[list[tuple[ComparedEncoder, int]], list[str]]:
    """The trainings that are not finished in OUT, seed by seed, and notes on those that are of other settings."""
    todo, notes = [], []
    for seed in range(plan.seeds):
        for encoder in plan.encoders:
            folder = seed_folder(plan, encoder, seed)
            if not (folder / SETTINGS).is_file():
                todo.append((encoder, seed))
            elif reason := differing(read_json(folder / SETTINGS)["identity"], identity(plan, encoder, seed, shared)):
                todo.append((encoder, seed))
                notes.append(f"{folder} is trained again: {reason}")
            elif trained_seconds(folder) is None:
                todo.append((encoder, seed))
    return todo, notes


def train_seed(plan: ComparisonPlan, encoder: ComparedEncoder, seed: int, shared: Mapping[str, Any]) -> float:
    """Train one encoder with one seed, unless that is done; -> seconds. A stopped one is resumed if it can be."""
    folder, settings = seed_folder(plan, encoder, seed), identity(plan, encoder, seed, shared)
    before = read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else None
    if before is not None and differing(before["identity"], settings) is None:
        if (seconds := before.get("seconds")) is not None:
            return float(seconds)
    elif folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SETTINGS, {"identity": settings})
    begin = time.perf_counter()
    train(to_argv(plan.training(encoder, seed, folder / MODEL)))
    seconds = time.perf_counter() - begin
    write_json(folder / SETTINGS, {"identity": settings, "seconds": round(seconds, 1)})
    return seconds


def evaluate_seed(plan: ComparisonPlan, encoder: ComparedEncoder, seed: int) -> Path:
    """Answer and score what is evaluated, unless that is done; -> the run folder."""
    folder = seed_folder(plan, encoder, seed)
    sets = read_sets(plan.mixture, split="val", **plan.where)
    names = "+".join(one.name if one.sampling == "all" else f"{one.name}@{one.sampling}" for one in sets)
    run = RunFolder(folder / "eval" / names.replace(":", "-").replace("/", "-"))
    record = run_record(
        str(folder / MODEL),
        sets,
        request=asked(plan.mixture, "val", **plan.where),
        options={"max_new_tokens": LONGEST, "batch_size": BATCH},
    )
    finished = run.path / RUN
    if finished.is_file() and read_json(finished).get("finished") and (run.path / METRICS).is_file():
        run.start(record)  # raises where it is of another model or of other data
        run.close()
        return run.path
    settings = Plan(batch_size=BATCH, generation=GenerationOptions(LONGEST), java=plan.java)
    evaluate(lambda: BTCChat.from_pretrained(folder / MODEL), sets, run, record, Ranks(), settings)
    return run.path


def learn(plan: ComparisonPlan, encoder: ComparedEncoder, seed: int, shared: Mapping[str, Any]) -> tuple[float, Path]:
    """Train and evaluate one encoder with one seed; -> seconds of training, and the run folder."""
    return train_seed(plan, encoder, seed, shared), evaluate_seed(plan, encoder, seed)


def together(
    function: Callable[..., Result],
    tasks: Sequence[tuple[Any, ...]],
    jobs: int,
    done: Callable[[int], None] = lambda number: None,
) -> list[Result]:
    """``function(*task)`` of each task, in ``jobs`` processes that share the cores; one job: here, with all threads.

    done: is called with the number of each task that is finished.
    """
    if jobs == 1:
        results = []
        for number, task in enumerate(tasks):
            results.append(function(*task))
            done(number)
        return results
    threads = max(1, (os.cpu_count() or 1) // jobs)
    settings: dict[str, Any] = {"mp_context": get_context("spawn"), "initializer": _start, "initargs": (threads,)}
    with ProcessPoolExecutor(jobs, **settings) as pool:  # its processes, unlike a Pool's, may have data workers
        futures = [pool.submit(function, *task) for task in tasks]
        numbers = {future: number for number, future in enumerate(futures)}
        for future in as_completed(futures):
            future.result()
            done(numbers[future])
        return [future.result() for future in futures]


def _start(threads: int) -> None:
    """In a process of its own: the tables that trainings print go to stderr, as our caller's stdout is a report."""
    import sys

    torch.set_num_threads(threads)
    sys.stdout = sys.stderr
