"""Train change encoders alike, evaluate them on the same samples, and tabulate their scores and costs."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

from typing_extensions import TypedDict  # pydantic accepts no other on Python < 3.12

from btcchat.assets import resource
from btcchat.eval.captions.bootstrap import DRAWS
from btcchat.eval.encoders.cost import Cost, Timing, alone, cost_in, timing
from btcchat.eval.encoders.estimate import Estimate, estimate, in_words
from btcchat.eval.encoders.markdown import table
from btcchat.eval.encoders.plan import ComparedEncoder, ComparisonPlan, conditions, identity
from btcchat.eval.encoders.runs import Task, learn, seed_folder, together, trained_seconds
from btcchat.eval.encoders.scores import (
    ACCURACY,
    FLAGS,
    Score,
    ScoreDifference,
    ScoreValues,
    answer_scores,
    caption_scores,
    difference_text,
    score_text,
)
from btcchat.eval.runs.finished import RunSet, read_run
from btcchat.eval.runs.samples import CAPTIONS, EvalSet
from btcchat.files import atomic_write, cannot_write, read_json, write_json
from btcchat.media.frames import Sources
from btcchat.outputs.lock import Lock
from btcchat.outputs.ours import check_replaceable

logger = logging.getLogger(__name__)

RESULT, TEXT = "comparison.json", "comparison.md"
COST = "cost.json"  # in the folder of a seed
PAIRS = 16  # in the batch whose cost is measured
TITLES = {  # measure -> its column
    "S*m": "S*m",
    "changed CIDEr-D": "CIDEr-D of changed pairs",
    FLAGS: "changed or unchanged, %",
    ACCURACY: "accuracy, %",
}


class CostFile(TypedDict):
    """cost.json in the folder of a seed."""

    pairs: int  # the pairs it was measured with
    cost: Cost


class EncoderResult(TypedDict):
    """A row of the table. scores, differences: by measure, prefixed with the name of the set if there are several."""

    encoder: str
    options: dict[str, Any]
    folder: str
    scores: dict[str, ScoreValues]
    differences: dict[str, ScoreDifference]  # from the first encoder; {} for that encoder itself
    cost: Cost
    milliseconds: float
    minutes: float  # of training per seed


class Comparison(TypedDict):
    """comparison.json."""

    settings: dict[str, Any]
    evaluated: list[dict[str, Any]]  # name, kind, number of samples, whether it is a test split
    draws: int
    timing: Timing
    encoders: list[EncoderResult]


def compare(plan: ComparisonPlan, tell: Callable[[str], None] = logger.info) -> Comparison:
    """Train and evaluate what OUT does not hold yet, and write comparison.json and comparison.md.

    tell: called with each line about the progress. Raises BTCChatError for a plan that cannot be carried out, if OUT
    holds files of these names that we did not write, or if another process writes there.
    """
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(f"--out {plan.out}", error) from error
    with Lock(plan.out / ".lock", f"--out {plan.out}"):
        for name, begins in ((RESULT, b'{\n  "settings": {'), (TEXT, b"| encoder ")):
            check_replaceable(plan.out / name, "--out", partial(_begins, begins))
        return _compare(plan, tell)


def _begins(begins: bytes, head: bytes) -> bool:
    return head.startswith(begins)


def _compare(plan: ComparisonPlan, tell: Callable[[str], None]) -> Comparison:
    sets, shared = plan.check(), conditions(plan)
    tasks = [
        Task(plan, encoder, seed, identity(plan, encoder, seed, shared))
        for seed in range(plan.seeds)  # outermost, so that each finished seed is a complete comparison
        for encoder in plan.encoders
    ]
    todo = [task for task in tasks if not task.is_trained()]
    for task in todo:
        if reason := task.differs():
            tell(f"{task.folder} will be retrained: {reason}")
    tell(_how_long(plan, todo))

    def done(number: int) -> None:
        if (task := tasks[number]) in todo:
            seconds = trained_seconds(task.folder) or 0
            tell(f"{task.encoder.label}, seed {task.seed}: trained in {in_words(seconds)}, and evaluated")

    results = together(learn, [(task,) for task in tasks], plan.jobs, done)
    runs: dict[str, list[Path]] = {encoder.label: [] for encoder in plan.encoders}
    for task, run in zip(tasks, results, strict=True):
        runs[task.encoder.label].append(run)
    scores = scores_of({name: [read_run(run).sets for run in folders] for name, folders in runs.items()}, plan.java)
    result = _comparison(plan, sets, scores)
    write_json(plan.out / RESULT, result)
    with atomic_write(plan.out / TEXT) as part:
        part.write_text(comparison_text(result) + "\n", encoding="utf-8")
    return result


def _how_long(plan: ComparisonPlan, todo: Sequence[Task]) -> str:
    """Estimate how long the training runs will take, by timing a few steps of each encoder; return a line about it."""
    count = len(plan.encoders) * plan.seeds
    if not todo:
        return f"all {count} training runs are already in {plan.out}"
    labels = [task.encoder.label for task in todo]
    encoders = [encoder for encoder in plan.encoders if encoder.label in labels]
    timed = together(estimate, [(plan, encoder) for encoder in encoders], min(plan.jobs, len(encoders)))
    total = sum(one.seconds * labels.count(encoder.label) for encoder, one in zip(encoders, timed, strict=True))
    each = [_steps(encoder, one) for encoder, one in zip(encoders, timed, strict=True)]
    kept = f" ({count - len(todo)} more are already in {plan.out})" if count > len(todo) else ""
    jobs = min(plan.jobs, len(todo))
    at_once = f", {jobs} at a time" if jobs > 1 else ""
    runs = f"{len(todo)} training run{'s' * (len(todo) > 1)}{kept}{at_once}"
    return f"{runs}: about {in_words(total / jobs)}, not counting the evaluations ({'; '.join(each)})"


def _steps(encoder: ComparedEncoder, one: Estimate) -> str:
    return f"{encoder.label} {one.steps} steps of {one.step_seconds:.2f} s, {in_words(one.seconds)} per seed"


def scores_of(runs: Mapping[str, Sequence[Sequence[RunSet]]], java: str | None = None) -> dict[str, dict[str, Score]]:
    """Map each name and measure of TITLES to a Score. runs: maps each name to the sets of each seed."""
    found: dict[str, dict[str, Score]] = {name: {} for name in runs}
    first = next(iter(runs.values()))[0]
    for number, one in enumerate(first):
        rows = {name: [sets[number].rows for sets in seeds] for name, seeds in runs.items()}
        if one.kind == CAPTIONS:
            scores = caption_scores(rows, java=java)
        else:
            scores = answer_scores(one.kind, rows, ranges=one.ranges)
        prefix = f"{one.name} " if len(first) > 1 else ""
        for name, own in scores.items():
            found[name] |= {prefix + measure: own[measure] for measure in TITLES if measure in own}
    return found


def _comparison(plan: ComparisonPlan, sets: Sequence[EvalSet], scores: Mapping[str, Mapping[str, Score]]) -> Comparison:
    folders = [seed_folder(plan, encoder, 0) / "model" for encoder in plan.encoders]
    pairs = _pairs(sets)
    times = alone(timing, folders, pairs, plan.repeats)
    first = scores[plan.encoders[0].label]
    rows: list[EncoderResult] = []
    for number, encoder in enumerate(plan.encoders):
        own = scores[encoder.label]
        seconds = [trained_seconds(seed_folder(plan, encoder, seed)) or 0 for seed in range(plan.seeds)]
        rows.append(
            {
                "encoder": encoder.label,
                "options": dict(encoder.options),
                "folder": encoder.folder,
                "scores": {name: score.values() for name, score in own.items()},
                "differences": {name: own[name].minus(first[name]) for name in own} if number else {},
                "cost": _cost(folders[number], pairs),
                "milliseconds": times["milliseconds"][number],
                "minutes": sum(seconds) / 60 / plan.seeds,
            }
        )
    settings = json.loads(json.dumps(asdict(plan), default=str))
    evaluated = [
        {"name": one.name, "kind": one.kind, "samples": len(one.samples), "test split": one.is_test} for one in sets
    ]
    return {"settings": settings, "evaluated": evaluated, "draws": DRAWS, "timing": times, "encoders": rows}


def _cost(model: Path, pairs: Sequence[Sources]) -> Cost:
    """Measure the cost once, in a separate process, and store it next to the model."""
    path = model.parent / COST
    if path.is_file() and (kept := read_json(path, schema=CostFile)).get("pairs") == len(pairs):
        return cast(CostFile, kept)["cost"]
    found = alone(cost_in, model, pairs)
    write_json(path, {"pairs": len(pairs), "cost": found})
    return found


def _pairs(sets: Sequence[EvalSet]) -> list[Sources]:
    """Some evaluated pairs for measuring costs; the packaged example if none of the samples is a pair."""
    pairs: list[Sources] = []
    for sample in (sample for one in sets for sample in one.samples):
        if len(pairs) < PAIRS and (record := sample.record).modality == "pair":
            pairs.append(record.sources)
    example = resource("example")
    return pairs or [[str(example / "before.png"), str(example / "after.png")]]


# -- text output
# --------------------------------------------------------------------------------------------------------


def comparison_text(result: Comparison) -> str:
    """The table, followed by notes on how it was made."""
    rows = result["encoders"]
    first = rows[0]["encoder"]
    measures = list(rows[0]["scores"])
    head = ["encoder"]
    for measure in measures:
        head += [_title(measure), *([f"minus {first}"] if len(rows) > 1 else [])]
    head += ["parameters", "its GFLOP a pair", "GFLOP a pair", "ms a pair", "peak MiB", "tokens a pair"]
    head.append("training, minutes a seed")
    cells = [_cells(row, measures, len(rows) > 1) for row in rows]
    return "\n\n".join([table(head, cells), *_notes(result)])


def _cells(row: EncoderResult, measures: Sequence[str], several: bool) -> list[str]:
    cells = [row["encoder"]]
    for measure in measures:
        cells.append(score_text(row["scores"][measure]))
        if several:
            difference = row["differences"].get(measure)
            cells.append("-" if difference is None else difference_text(difference))
    own = row["cost"]
    peak = "-" if own["peak MiB"] is None else f"{own['peak MiB']:.0f}"
    cells += [f"{own['parameters']:,}", f"{own['its GFLOP a pair']:.2f}", f"{own['GFLOP a pair']:.2f}"]
    return [*cells, f"{row['milliseconds']:.1f}", peak, str(own["tokens a pair"]), f"{row['minutes']:.1f}"]


def _title(measure: str) -> str:
    name = next(
        name for name in TITLES if measure.endswith(name) and (measure == name or measure[-len(name) - 1] == " ")
    )
    return measure.removesuffix(name) + TITLES[name]


def _notes(result: Comparison) -> list[str]:
    settings, times = result["settings"], result["timing"]
    sets = ", ".join(
        f"{one['name']} ({one['samples']} samples{', A TEST SPLIT' * one['test split']})" for one in result["evaluated"]
    )
    seeds = f"{settings['seeds']} seed{'s' * (settings['seeds'] > 1)}"
    loads = [f"{load:.1f}" for load in times["load"] if load is not None]
    load = f" Load average {' before and '.join(loads)} after the timing, on {times['cores']} cores." if loads else ""
    return [
        f"Each encoder is newly initialised in {settings['start']} and trained on {settings['data']} with {seeds}, "
        f"on the same samples in the same batches. The last weights are evaluated on {sets}; no checkpoint is chosen.",
        f"Scores are means over the seeds, with 95 % intervals over {result['draws']} draws of the samples in "
        "brackets; p is two-sided, from a paired bootstrap over the same draws. Both describe the effect of other "
        "samples, not of other seeds; the scores of each seed are in comparison.json.",
        f"Costs are from pixels to the first word, in batches of up to {PAIRS} pairs, {times['dtype']}. ms: medians of "
        f"{settings['repeats']} batches, alternating between encoders. Peak memory: added by a batch to the weights. "
        f"{times['machine']}.{load}",
    ]
