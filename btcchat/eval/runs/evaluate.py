"""Evaluate a model on data sets and write a run folder with the scores."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from btcchat.api import BTCChat
from btcchat.clues.ask import ClueSource
from btcchat.console.progress import Progress
from btcchat.errors import BTCChatError
from btcchat.eval.captions.changes import same_for_all
from btcchat.eval.maps.change_maps import ChangeMaps
from btcchat.eval.runs.answer import Answering
from btcchat.eval.runs.baselines import TowerFeatures, most_frequent, nearest
from btcchat.eval.runs.folder import METRICS, PREDICTIONS, REMOVE, RUN, RunFolder
from btcchat.eval.runs.metrics import score_set
from btcchat.eval.runs.ranks import Ranks
from btcchat.eval.runs.samples import CAPTIONS, EvalSet, Sample, other_split, read_sets, whole_splits
from btcchat.eval.runs.sweep import Consumer, Seen, batches, sweep, unfinished
from btcchat.files import read_json
from btcchat.generation import GREEDY, GenerationOptions
from btcchat.model import BTCChatModel

BASELINES = "baselines.json"
SELECTION = "selection.json"  # in a checkpoint folder: how it was chosen during training


def train_splits(
    sets: Sequence[EvalSet], train: str | None, where: Mapping[str, Any]
) -> tuple[dict[str, list[EvalSet]], dict[str, str]]:
    """The train splits for the baselines of each caption set, or a note if it has none, both by the name of the set.

    train: a mixture, "none", or None for the set's own train split. where: data_root and folder of `read_sets`.
    Raises BTCChatError if ``train`` contains an evaluated set, or a set without captions.
    """
    splits: dict[str, list[EvalSet]] = {}
    notes: dict[str, str] = {}
    whole = whole_splits(sets)
    train_sets = [] if train is None or train == "none" else read_sets(train, split="train", **where)
    for eval_set in sets:
        name = eval_set.name
        for train_set in train_sets:
            if train_set.name == name:
                raise BTCChatError(
                    f"--train contains {name}, the set being evaluated; name another split for the baselines"
                )
            if train_set.kind != CAPTIONS:
                raise BTCChatError(
                    f"--train contains {train_set.name}, a set of {train_set.kind}; the baselines need captions"
                )
        if eval_set.kind != CAPTIONS or train == "none":
            continue
        splits[name], reason = train_sets, "none is known"
        if train is None:
            try:
                own_train = other_split(eval_set, "train", where, whole)
                splits[name] = [own_train] if own_train else []
            except BTCChatError as error:
                reason = str(error)
        if not splits[name]:
            notes[name] = f"no baselines from a train split, since {reason}; name one with --train MIXTURE"
    return splits, notes


@dataclass(frozen=True)
class Plan:
    """What an evaluation does with its samples.

    clues: given the model, returns how a record without a clue gets one; or None. train, notes: from `train_splits`.
    row_of: makes a row of predictions.jsonl. maps: draws and scores the change maps of the sets. progress: counts the
    samples of this process, set by set.
    """

    batch_size: int = 16
    generation: GenerationOptions = GREEDY
    clues: Callable[[BTCChat], ClueSource | None] = lambda model: None
    train: Mapping[str, Sequence[EvalSet]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    preset: str = "levir-cc"
    java: str | None = None
    row_of: Callable[[dict[str, Any]], dict[str, Any]] = dict
    maps: ChangeMaps | None = None
    progress: Progress = field(default_factory=lambda: Progress("samples", shown=False))


def evaluate(
    load_model: Callable[[], BTCChat],
    sets: Sequence[EvalSet],
    folder: RunFolder,
    run: dict[str, Any],
    ranks: Ranks,
    plan: Plan = Plan(),
) -> dict[str, Any] | None:
    """Answer the samples that ``folder`` has no answer for, then score all; the first process returns the metrics.

    run: for run.json. load_model: called only if there is something to compute.
    """
    try:
        return _evaluate(cache(load_model), sets, folder, run, ranks, plan)
    finally:
        folder.close()


def _evaluate(
    load_model: Callable[[], BTCChat],
    sets: Sequence[EvalSet],
    folder: RunFolder,
    run: dict[str, Any],
    ranks: Ranks,
    plan: Plan,
) -> dict[str, Any] | None:
    done = ranks.from_first(folder.start(run) if ranks.first else None)
    nearest_of = _see(load_model, sets, folder, ranks, done, plan)
    if plan.maps is not None:
        plan.maps.draw_threshold_pairs(load_model, folder.path, ranks, plan.batch_size, plan.progress)
    if not ranks.first:
        return None
    texts = folder.answers()
    rows = [prediction_row(sample, texts[sample.id]) for eval_set in sets for sample in eval_set.samples]
    folder.write(PREDICTIONS, [plan.row_of(row) for row in rows])
    metrics: dict[str, Any] = {"preset": plan.preset, "selected": run.get("selected"), "sets": {}}
    for eval_set in sets:
        name, captions = eval_set.name, eval_set.kind == CAPTIONS
        scores = score_set(
            eval_set,
            [texts[sample.id] for sample in eval_set.samples],
            baselines=_baselines(eval_set, plan.train.get(name, ()), nearest_of) if captions else None,
            preset=plan.preset,
            java=plan.java,
            notes=[plan.notes[name]] if name in plan.notes else [],
        )
        map_scores = plan.maps and plan.maps.scores(eval_set, folder.path)
        metrics["sets"][name] = scores | ({"change_map": map_scores} if map_scores else {})
    folder.write(METRICS, metrics)
    folder.write(RUN, read_json(folder.path / RUN) | {"finished": True})
    return metrics


def _see(
    load_model: Callable[[], BTCChat],
    sets: Sequence[EvalSet],
    folder: RunFolder,
    ranks: Ranks,
    done: Collection[str],
    plan: Plan,
) -> dict[str, list[str]]:
    """Go through every sample once and compute its answer, its change map and its tower features.

    Return the captions of the nearest neighbours for each set that has a train split.
    """
    kept = ranks.from_first(_kept_baselines(folder) if ranks.first else None)
    keys = {s.name: _baselines_key(s, train) for s in sets if (train := plan.train.get(s.name))}
    compared = [eval_set for eval_set in sets if keys.get(eval_set.name, "") not in {"", *kept}]
    train_sets = [train_set for eval_set in compared for train_set in plan.train[eval_set.name]]
    features = {s.content: TowerFeatures(s.samples) for s in (*train_sets, *compared)}
    groups = [batch for eval_set in sets for batch in batches(eval_set.samples, plan.batch_size)]
    consumers: list[Consumer] = [*features.values(), *([plan.maps.drawing(folder.path)] if plan.maps else [])]
    todo = ranks.from_first(_numbers(groups, [_Missing(done), *consumers]) if ranks.first else None)
    share = [groups[number] for number in todo[ranks.number :: ranks.world]]
    if share:
        plan.progress.restart(sum(map(len, share)), "samples")
        with folder.part(ranks.number) as part:
            model = load_model()
            answering = Answering(done, part.write, plan.generation, plan.clues(model))
            for samples in sweep(model, share, [answering, *consumers]):
                plan.progress.update(len(samples))
    ranks.gather(None)  # wait until all have written
    seen = {eval_set.content for eval_set in sets}
    for train_set in train_sets:
        if train_set.content not in seen:
            seen.add(train_set.content)
            _see_train(load_model, train_set, features[train_set.content], ranks, plan)
    rows = {content: tower_features.gathered(ranks) for content, tower_features in features.items()}  # (N, 3 C)
    for eval_set in compared:
        train = plan.train[eval_set.name]
        pairs = [sample for train_set in train for sample in train_set.samples]
        train_rows = np.concatenate([rows[train_set.content] for train_set in train])
        kept |= {keys[eval_set.name]: nearest(rows[eval_set.content], train_rows, pairs)}
        if ranks.first:
            folder.write(BASELINES, kept)
    return {name: kept[key] for name, key in keys.items()}


class _Missing:
    """The samples that have no answer yet."""

    def __init__(self, done: Collection[str]):
        self.done = set(done)

    def wants(self, sample: Sample) -> bool:
        return sample.id not in self.done

    def take(self, model: BTCChatModel, seen: Seen) -> None: ...


def _numbers(groups: Sequence[list[Sample]], consumers: Sequence[Consumer]) -> list[int]:
    """The numbers of the batches with a sample that a consumer needs."""
    return [number for number, group in enumerate(groups) if unfinished([group], consumers)]


def _see_train(
    load_model: Callable[[], BTCChat], train: EvalSet, features: TowerFeatures, ranks: Ranks, plan: Plan
) -> None:
    if share := batches(train.samples, plan.batch_size)[ranks.number :: ranks.world]:
        plan.progress.restart(sum(map(len, share)), f"samples of {train.name}")
        for samples in sweep(load_model(), share, [features]):
            plan.progress.update(len(samples))


def _kept_baselines(folder: RunFolder) -> dict[str, list[str]]:
    path = folder.path / BASELINES
    return read_json(path, way_out=REMOVE) if path.is_file() else {}


def _baselines_key(eval_set: EvalSet, train: Sequence[EvalSet]) -> str:
    return f"{eval_set.name} from {', '.join(f'{split.name} {split.fingerprint}' for split in train)}"


def _baselines(
    eval_set: EvalSet, train: Sequence[EvalSet], nearest_of: Mapping[str, list[str]]
) -> dict[str, list[str]]:
    """Map the name of each baseline to its captions of the samples."""
    captions = same_for_all([sample.references for sample in eval_set.samples])
    if not train:
        return captions
    for name, text in most_frequent([sample for split in train for sample in split.samples]).items():
        captions[name] = [text] * len(eval_set.samples)
    return captions | {"nearest in train": nearest_of[eval_set.name]}


def prediction_row(sample: Sample, text: str) -> dict[str, Any]:
    """A row of predictions.jsonl, which `read_predictions` reads back as a Prediction."""
    row: dict[str, Any] = {"id": sample.id, "prediction": text, "references": sample.references}
    row |= {} if sample.changed is None else {"changed": int(sample.changed)}
    return row | ({"question_type": sample.question_type} if sample.question_type else {})


def ccexpert_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row in the format of CCExpert's published predictions, without the changed flag; a question keeps its type."""
    names = {"id": "uid", "prediction": "pred", "references": "change_caption", "question_type": "question_type"}
    return {new: row[name] for name, new in names.items() if name in row}


ROW_FORMATS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {  # --format -> its function for a row
    "btcchat": dict,
    "ccexpert": ccexpert_row,
}
