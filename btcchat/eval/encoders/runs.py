"""One training run and its evaluation, stored in the folder of its seed; and several of them in parallel.

OUT/ENCODER/seed-N/settings.json    what the training depends on, and its seconds once it is finished
OUT/ENCODER/seed-N/model            the trained model, with training.json
OUT/ENCODER/seed-N/eval             the run folder of `btcchat eval`
"""

import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch
from typing_extensions import TypedDict  # pydantic accepts no other on Python < 3.12

from btcchat.api import BTCChat
from btcchat.console.children import process_pool
from btcchat.errors import BTCChatError
from btcchat.eval.encoders.plan import ComparedEncoder, ComparisonPlan, differing
from btcchat.eval.runs.evaluate import Plan, evaluate
from btcchat.eval.runs.folder import METRICS, RUN, RunFolder
from btcchat.eval.runs.ranks import Ranks
from btcchat.eval.runs.record import run_record
from btcchat.eval.runs.samples import read_arguments, read_sets
from btcchat.eval.runs.schema import RunFile
from btcchat.files import read_json, write_json
from btcchat.generation import GenerationOptions
from btcchat.limits.schema import Number
from btcchat.media.reading import FLAGS, Reading
from btcchat.train.presets import to_argv
from btcchat.train.train_mem import run as train

logger = logging.getLogger(__name__)

SETTINGS, MODEL = "settings.json", "model"
LONGEST, BATCH = 128, 16  # new tokens, and batch size, as in `btcchat eval`

Result = TypeVar("Result")


class SettingsFile(TypedDict, total=False):
    """settings.json in the folder of a seed; ``seconds``: how long it took, once the training is finished."""

    identity: dict[str, Any]
    seconds: Number


def seed_folder(plan: ComparisonPlan, encoder: ComparedEncoder, seed: int) -> Path:
    return plan.out / encoder.folder / f"seed-{seed}"


def trained_seconds(folder: Path) -> float | None:
    """How long the finished training in a seed's folder took; None if there is none."""
    path = folder / SETTINGS
    seconds: float | None = read_json(path, schema=SettingsFile).get("seconds") if path.is_file() else None
    return seconds


@dataclass(frozen=True)
class Task:
    """One encoder with one seed. identity: everything that its training depends on, see `plan.identity`."""

    plan: ComparisonPlan
    encoder: ComparedEncoder
    seed: int
    identity: dict[str, Any]

    @property
    def folder(self) -> Path:
        return seed_folder(self.plan, self.encoder, self.seed)

    def is_trained(self) -> bool:
        return self.differs() is None and trained_seconds(self.folder) is not None

    def differs(self) -> str | None:
        """How it differs from the training in its folder, as text; None if it does not."""
        path = self.folder / SETTINGS
        if not path.is_file():
            return None
        return differing(read_json(path, "identity", schema=SettingsFile)["identity"], self.identity)


def train_task(task: Task) -> None:
    """Train, unless already done. An interrupted training is resumed if it left a checkpoint."""
    folder = task.folder
    if task.is_trained():
        return
    if folder.exists() and not (folder / SETTINGS).is_file() and any(folder.iterdir()):
        raise BTCChatError(f"{folder} contains other files but no {SETTINGS}; give another --out")
    if task.differs():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SETTINGS, {"identity": task.identity})
    begin = time.perf_counter()
    train(to_argv(task.plan.training(task.encoder, task.seed, folder / MODEL)))
    write_json(folder / SETTINGS, {"identity": task.identity, "seconds": round(time.perf_counter() - begin, 1)})


def evaluate_task(task: Task) -> Path:
    """Answer and score the evaluated samples, unless already done; return the run folder."""
    plan, model = task.plan, task.folder / MODEL
    sets = read_sets(plan.mixture, split="val", **plan.where)
    names = "+".join(one.name if one.sampling == "all" else f"{one.name}@{one.sampling}" for one in sets)
    run = RunFolder(task.folder / "eval" / names.replace(":", "-").replace("/", "-"))
    flags = plan.training(task.encoder, task.seed, model)
    given = {name: str(value) for name, value in flags.items() if name in FLAGS and value is not None}
    reading = Reading.parse(**given)  # as in training
    options = {"max_new_tokens": LONGEST, "batch_size": BATCH, **reading.record()}
    record = run_record(str(model), sets, request=read_arguments(plan.mixture, "val", **plan.where), options=options)
    finished = run.path / RUN
    if finished.is_file() and read_json(finished, schema=RunFile).get("finished") and (run.path / METRICS).is_file():
        run.start(record)  # raises if it is for another model or other data
        run.close()
        return run.path
    settings = Plan(batch_size=BATCH, generation=GenerationOptions(LONGEST), java=plan.java)
    evaluate(lambda: BTCChat.from_pretrained(model, reading=reading), sets, run, record, Ranks(), settings)
    return run.path


def learn(task: Task) -> Path:
    """Train and evaluate; return the run folder."""
    train_task(task)
    return evaluate_task(task)


def together(
    function: Callable[..., Result],
    tasks: Sequence[tuple[Any, ...]],
    jobs: int,
    done: Callable[[int], None] = lambda number: None,
) -> list[Result]:
    """Call ``function(*task)`` for each task in ``jobs`` processes that share the cores; one job runs in this process.

    done: called with the number of each finished task.
    """
    if jobs == 1:
        results = []
        for number, task in enumerate(tasks):
            results.append(function(*task))
            done(number)
        return results
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # Unlike those of multiprocessing's Pool, its processes may start data workers.
    with process_pool(jobs, get_context("spawn"), _start, (threads,)) as pool:
        futures = [pool.submit(function, *task) for task in tasks]
        numbers = {future: number for number, future in enumerate(futures)}
        for future in as_completed(futures):
            future.result()
            done(numbers[future])
        return [future.result() for future in futures]


def _start(threads: int) -> None:
    """Start a process: the tables that training runs print go to stderr, since the caller's stdout is a report."""
    import sys

    torch.set_num_threads(threads)
    sys.stdout = sys.stderr
