"""An evaluation from a model and data sets to a run folder with its scores."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from btcchat.errors import BTCChatError
from btcchat.eval.captions.changes import same_for_all
from btcchat.eval.runs.folder import METRICS, PREDICTIONS, REMOVE, RUN, RunFolder
from btcchat.eval.runs.metrics import score_set
from btcchat.eval.runs.ranks import Ranks
from btcchat.eval.runs.samples import CAPTIONS, EvalSet, other_split, read_sets
from btcchat.files import read_json

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


def evaluate(
    load_model: Callable,
    sets: Sequence[EvalSet],
    folder: RunFolder,
    run: dict,
    ranks: Ranks,
    *,
    batch_size: int,
    generation: dict,
    clues: Callable = lambda model: None,
    train: Mapping[str, Sequence[EvalSet]] | None = None,
    notes: Mapping[str, str] | None = None,
    preset: str = "levir-cc",
    java: str | None = None,
    row_of: Callable[[dict], dict] = dict,
    maps=None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict | None:
    """Answer what ``folder`` has no answer to yet, then score all: -> metrics, in the first process.

    run: what run.json says; load_model: called where there is something to answer; clues: the model -> its
    augment.ClueSource or None. train, notes: of `train_splits`. row_of: the form of a row of predictions.jsonl.
    maps: change_maps.ChangeMaps of the sets, to draw and score them. progress: called with answers (maps) done here,
    0 at first, and to do.
    """
    load_model = cache(load_model)
    done = ranks.from_first(folder.start(run) if ranks.first else None)
    _answer(load_model, sets, folder, ranks, done, batch_size, clues, generation, progress)
    ranks.gather(None)  # until all have written
    if maps is not None:
        maps.draw(load_model, folder.path, ranks, batch_size, progress)
    train, notes = train or {}, notes or {}
    captions = [one for one in sets if one.kind == CAPTIONS]
    baselines = {s.name: _baselines(load_model, s, folder, train.get(s.name, ()), ranks) for s in captions}
    if not ranks.first:
        return None
    texts = folder.answers()
    rows = [prediction_row(sample, texts[sample.id]) for one in sets for sample in one.samples]
    folder.write(PREDICTIONS, [row_of(row) for row in rows])
    metrics = {"preset": preset, "selected": run.get("selected"), "sets": {}}
    for one in sets:
        said = [texts[sample.id] for sample in one.samples]
        known = {"baselines": baselines.get(one.name), "notes": [notes[one.name]] if one.name in notes else []}
        scores = score_set(one, said, preset=preset, java=java, **known)
        drawn = maps and maps.scores(one.name, folder.path)
        metrics["sets"][one.name] = scores | ({"change_map": drawn} if drawn else {})
    folder.write(METRICS, metrics)
    folder.write(RUN, read_json(folder.path / RUN) | {"finished": True})
    folder.close()
    return metrics


def _answer(load_model, sets, folder, ranks: Ranks, done: dict, batch_size: int, clues, generation: dict, progress):
    from btcchat.eval.runs.answer import answers, batches

    numbered = enumerate(batch for one in sets for batch in batches(one.samples, batch_size))
    todo = [(number, batch) for number, batch in numbered if any(sample.id not in done for sample in batch)]
    mine = todo[ranks.number :: ranks.world]
    if not mine:
        return
    total = sum(len(batch) for _, batch in mine)
    progress(0, total)
    with folder.part(ranks.number) as part:
        model = load_model()
        for found in answers(model, mine, clues=clues(model), **generation):
            part.write({name: text for name, text in found.items() if name not in done})
            progress(len(found), total)


def prediction_row(sample, text: str) -> dict:
    row = {"id": sample.id, "prediction": text, "references": sample.references}
    row |= {} if sample.changed is None else {"changed": int(sample.changed)}
    return row | ({"question_type": sample.question_type} if sample.question_type else {})


def ccexpert_row(row: dict) -> dict:
    """A row as CCExpert publishes its predictions, so without the flag of a changed pair; a question keeps its type."""
    names = {"id": "uid", "prediction": "pred", "references": "change_caption", "question_type": "question_type"}
    return {new: row[name] for name, new in names.items() if name in row}


ROW_FORMATS = {"btcchat": dict, "ccexpert": ccexpert_row}  # --format -> what it makes of a row


def _baselines(load_model, one: EvalSet, folder: RunFolder, train: Sequence[EvalSet], ranks: Ranks) -> dict:
    """Name -> captions of the samples; those of a train split are kept in the folder."""
    found = same_for_all([sample.references for sample in one.samples])
    if not train:
        return found
    from btcchat.eval.runs.baselines import most_frequent, nearest

    known = [sample for other in train for sample in other.samples]
    for name, text in most_frequent(known).items():
        found[name] = [text] * len(one.samples)
    path = folder.path / BASELINES
    key = f"{one.name} from {', '.join(f'{other.name} {other.fingerprint}' for other in train)}"
    kept = ranks.from_first(read_json(path, way_out=REMOVE) if ranks.first and path.is_file() else {})
    if key not in kept:
        kept |= {key: nearest(load_model(), one.samples, known, ranks)}
        if ranks.first:
            folder.write(BASELINES, kept)
    return found | {"nearest in train": kept[key]}
