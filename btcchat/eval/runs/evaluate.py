"""An evaluation from a model and data sets to a run folder with its scores."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from btcchat.clues.ask import ClueSource
from btcchat.errors import BTCChatError
from btcchat.eval.captions.changes import same_for_all
from btcchat.eval.maps.change_maps import ChangeMaps
from btcchat.eval.runs.answer import Answering
from btcchat.eval.runs.baselines import TowerFeatures, most_frequent, nearest
from btcchat.eval.runs.folder import METRICS, PREDICTIONS, REMOVE, RUN, RunFolder
from btcchat.eval.runs.metrics import score_set
from btcchat.eval.runs.ranks import Ranks
from btcchat.eval.runs.samples import CAPTIONS, EvalSet, Sample, other_split, read_sets
from btcchat.eval.runs.sweep import Consumer, Seen, batches, sweep, wanted
from btcchat.files import read_json
from btcchat.generation import GREEDY, GenerationOptions
from btcchat.model import BTCChatModel

BASELINES = "baselines.json"
SELECTION = "selection.json"  # in a checkpoint folder: how it was chosen while training


def train_splits(
    sets: Sequence[EvalSet], train: str | None, where: dict
) -> tuple[dict[str, list[EvalSet]], dict[str, str]]:
    """What the baselines of each set of captions are taken from, and for a set without that a note, both by its name.

    train: a mixture, "none", or None for the set's own train split. where: data_root and folder of `read_sets`.
    Raises BTCChatError where it has what is evaluated, or no captions.
    """
    splits, notes = {}, {}
    given = read_sets(train, split="train", **where) if train not in (None, "none") else []
    for one in sets:
        for other in given:
            if other.name == one.name:
                raise BTCChatError(
                    f"--train has {one.name}, which is what is evaluated; the baselines need another split"
                )
            if other.kind != CAPTIONS:
                raise BTCChatError(f"--train has {other.name}, which has {other.kind}; the baselines need captions")
        if one.kind != CAPTIONS or train == "none":
            continue
        splits[one.name], why = given, "none is known"
        if train is None:
            try:
                own = other_split(one, "train", where)
                splits[one.name] = [own] if own else []
            except BTCChatError as error:
                why = str(error)
        if not splits[one.name]:
            notes[one.name] = f"no baselines of a train split, as {why}; --train MIXTURE names one"
    return splits, notes


@dataclass(frozen=True)
class Plan:
    """What an evaluation does with its samples, beside asking them.

    clues: the model -> how a record without a clue gets one, or None. train, notes: of `train_splits`. row_of: the form
    of a row of predictions.jsonl. maps: the change maps of the sets, to draw and score them. progress: is called with
    the number of samples that are done and to do here; first with 0.
    """

    batch_size: int = 16
    generation: GenerationOptions = GREEDY
    clues: Callable[[BTCChatModel], ClueSource | None] = lambda model: None
    train: Mapping[str, Sequence[EvalSet]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    preset: str = "levir-cc"
    java: str | None = None
    row_of: Callable[[dict], dict] = dict
    maps: ChangeMaps | None = None
    progress: Callable[[int, int], None] = lambda done, total: None


def evaluate(
    load_model: Callable[[], BTCChatModel],
    sets: Sequence[EvalSet],
    folder: RunFolder,
    run: dict,
    ranks: Ranks,
    plan: Plan = Plan(),
) -> dict | None:
    """Answer what ``folder`` has no answer to yet, then score all: -> metrics, in the first process.

    run: what run.json says; load_model: called where there is something to compute.
    """
    load_model = cache(load_model)
    done = ranks.from_first(folder.start(run) if ranks.first else None)
    nearest_of = _see(load_model, sets, folder, ranks, done, plan)
    if plan.maps is not None:
        plan.maps.draw_threshold_pairs(load_model, folder.path, ranks, plan.batch_size)
    if not ranks.first:
        return None
    texts = folder.answers()
    rows = [prediction_row(sample, texts[sample.id]) for one in sets for sample in one.samples]
    folder.write(PREDICTIONS, [plan.row_of(row) for row in rows])
    metrics: dict = {"preset": plan.preset, "selected": run.get("selected"), "sets": {}}
    for one in sets:
        answers = [texts[sample.id] for sample in one.samples]
        known = {
            "baselines": _baselines(one, plan.train.get(one.name, ()), nearest_of) if one.kind == CAPTIONS else None,
            "notes": [plan.notes[one.name]] if one.name in plan.notes else [],
        }
        scores = score_set(one, answers, preset=plan.preset, java=plan.java, **known)
        drawn = plan.maps and plan.maps.scores(one.name, folder.path)
        metrics["sets"][one.name] = scores | ({"change_map": drawn} if drawn else {})
    folder.write(METRICS, metrics)
    folder.write(RUN, read_json(folder.path / RUN) | {"finished": True})
    folder.close()
    return metrics


def _see(
    load_model: Callable[[], BTCChatModel],
    sets: Sequence[EvalSet],
    folder: RunFolder,
    ranks: Ranks,
    done: Collection[str],
    plan: Plan,
) -> dict[str, list[str]]:
    """Every sample once, for all that is computed of it: its answer, its change map, its tower features.

    Returns the captions of the nearest neighbours of each set that has a train split.
    """
    kept = ranks.from_first(_kept_baselines(folder) if ranks.first else None)
    keys = {one.name: _baselines_key(one, train) for one in sets if (train := plan.train.get(one.name))}
    features = {one.name: TowerFeatures(one.samples) for one in sets if keys.get(one.name, "") not in {"", *kept}}
    groups = [batch for one in sets for batch in batches(one.samples, plan.batch_size)]
    others: list[Consumer] = [*features.values(), *([plan.maps.drawing(folder.path)] if plan.maps else [])]
    todo = ranks.from_first(_numbers(groups, [_Missing(done), *others]) if ranks.first else None)
    mine = [groups[number] for number in todo[ranks.number :: ranks.world]]
    if mine:
        total = sum(map(len, mine))
        plan.progress(0, total)
        with folder.part(ranks.number) as part:
            model = load_model()
            answering = Answering(done, part.write, plan.generation, plan.clues(model))
            for samples in sweep(model, mine, [answering, *others]):
                plan.progress(len(samples), total)
    ranks.gather(None)  # until all have written
    for one in sets:
        if one.name in features:
            train = [sample for other in plan.train[one.name] for sample in other.samples]
            known = _train_features(load_model, train, ranks, plan.batch_size)
            kept |= {keys[one.name]: nearest(features[one.name].gathered(ranks), known, train)}
            if ranks.first:
                folder.write(BASELINES, kept)
    return {name: kept[key] for name, key in keys.items()}


class _Missing:
    """Those samples that have no answer yet."""

    def __init__(self, done: Collection[str]):
        self.done = set(done)

    def wants(self, sample: Sample) -> bool:
        return sample.id not in self.done

    def take(self, model: BTCChatModel, seen: Seen) -> None: ...


def _numbers(groups: Sequence[list[Sample]], consumers: Sequence[Consumer]) -> list[int]:
    """Which batches have a sample that somebody wants."""
    return [number for number, group in enumerate(groups) if wanted([group], consumers)]


def _train_features(
    load_model: Callable[[], BTCChatModel], train: Sequence[Sample], ranks: Ranks, batch_size: int
) -> np.ndarray:
    features = TowerFeatures(train)
    if mine := batches(train, batch_size)[ranks.number :: ranks.world]:
        for _ in sweep(load_model(), mine, [features]):
            pass
    return features.gathered(ranks)


def _kept_baselines(folder: RunFolder) -> dict[str, list[str]]:
    path = folder.path / BASELINES
    return read_json(path, way_out=REMOVE) if path.is_file() else {}


def _baselines_key(one: EvalSet, train: Sequence[EvalSet]) -> str:
    return f"{one.name} from {', '.join(f'{other.name} {other.fingerprint}' for other in train)}"


def _baselines(one: EvalSet, train: Sequence[EvalSet], nearest_of: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Name -> captions of the samples."""
    found = same_for_all([sample.references for sample in one.samples])
    if not train:
        return found
    for name, text in most_frequent([sample for other in train for sample in other.samples]).items():
        found[name] = [text] * len(one.samples)
    return found | {"nearest in train": nearest_of[one.name]}


def prediction_row(sample, text: str) -> dict:
    row = {"id": sample.id, "prediction": text, "references": sample.references}
    row |= {} if sample.changed is None else {"changed": int(sample.changed)}
    return row | ({"question_type": sample.question_type} if sample.question_type else {})


def ccexpert_row(row: dict) -> dict:
    """A row as CCExpert publishes its predictions, so without the flag of a changed pair; a question keeps its type."""
    names = {"id": "uid", "prediction": "pred", "references": "change_caption", "question_type": "question_type"}
    return {new: row[name] for name, new in names.items() if name in row}


ROW_FORMATS = {"btcchat": dict, "ccexpert": ccexpert_row}  # --format -> what it makes of a row
