"""Evaluation while training: the model answers a split at intervals, the scores are logged, the best model is kept.

OUTPUT_DIR/evaluations/step-N/    predictions.jsonl and metrics.json of each evaluation
OUTPUT_DIR/best/                  the model with the best score; selection.json has the score, the sets and the step
"""

import logging
import math
from collections.abc import Iterable
from typing import Any, TypeAlias, TypedDict, cast

import torch

from btcchat.api import BTCChat
from btcchat.clues.ask import ClueSource
from btcchat.errors import BTCChatError
from btcchat.eval.answers.accuracy import right_answers
from btcchat.eval.answers.answers import groups
from btcchat.eval.captions.changes import changed_rows
from btcchat.eval.captions.counts import METRICS
from btcchat.eval.captions.factuality import factuality
from btcchat.eval.runs.answer import Answering
from btcchat.eval.runs.evaluate import SELECTION, prediction_row
from btcchat.eval.runs.folder import METRICS as METRICS_FILE
from btcchat.eval.runs.folder import PREDICTIONS, RunFolder
from btcchat.eval.runs.metrics import check_scoring, rows_of, score_set
from btcchat.eval.runs.ranks import Ranks
from btcchat.eval.runs.samples import CAPTIONS, CLASSES, EvalSet, read_sets, trained_on
from btcchat.eval.runs.schema import Selection
from btcchat.eval.runs.sweep import batches, sweep
from btcchat.files import read_json
from btcchat.generation import GenerationOptions
from btcchat.train.arguments import DataArguments
from btcchat.train.checkpoints import delete
from btcchat.train.distributed import average_statistics
from btcchat.train.trainer import Hook, Trainer
from btcchat.train.training_arguments import TrainingArguments

logger = logging.getLogger(__name__)

ACCURACY = "accuracy"
CHANGED_ACCURACY = "changed/unchanged accuracy"
KEY_SCORES = ("S*m", "overall", ACCURACY)  # of captions, questions, classes
SUBSETS = ("changed only", "unchanged only")  # of captions
NEXT = "best.partial"  # the name of best/ while it is written
BATCH_SIZE, LONGEST = 16, 128  # samples at a time; new tokens, as in `btcchat eval`

SetScores: TypeAlias = dict[str, Any]  # of one set; the keys depend on its kind: see eval.runs.metrics.score_set


class EvaluationMetrics(TypedDict):
    """metrics.json of an evaluation."""

    step: int
    precision: str
    sets: dict[str, SetScores]  # by the set's name


def read_eval_sets(args: TrainingArguments, data_args: DataArguments) -> list[EvalSet]:
    """The sets of --eval_mixture. Raises BTCChatError for a test split without --i_know_this_is_the_test_split."""
    if (args.eval_strategy == "no") != (args.eval_mixture is None):
        raise BTCChatError("--eval_mixture and --eval_strategy steps or epoch go together; give both or neither")
    if args.eval_mixture is None:
        return []
    if args.eval_strategy == "steps" and not (args.eval_steps and args.eval_steps >= 1):
        raise BTCChatError("--eval_strategy steps needs --eval_steps N, the optimizer steps between two evaluations")
    sets = read_sets(args.eval_mixture, split="val", data_root=data_args.data_root, folder=data_args.mixture_folder)
    test_splits = _test_splits(sets)
    if test_splits and not args.i_know_this_is_the_test_split:
        raise BTCChatError(
            f"--eval_mixture has the test split {test_splits[0]}, and the best model would be selected on it; use "
            "a val split, or add --i_know_this_is_the_test_split True (every report will then mention it)"
        )
    for name in trained_on(sets, data_args.data_mixture, data_args.mixture_folder):
        logger.warning(
            "%s is in --data_mixture too, so its scores are on training samples, and best/ is selected on them", name
        )
    names = dict.fromkeys(name for eval_set in sets for name in score_names(eval_set))
    if args.metric_for_best_model not in (None, *names):
        raise _unknown_score(args.metric_for_best_model, names)
    check_scoring(sets)
    return sets


class Evaluation(Hook):
    """Evaluates ``trainer``'s model on ``sets`` during the run. clues: those of the training, if it has any."""

    def __init__(self, trainer: Trainer, sets: list[EvalSet], clues: ClueSource | None = None) -> None:
        self.trainer, self.sets, self.clues = trainer, sets, clues
        self.folder = trainer.output_dir
        self.best = -math.inf

    @property
    def precision(self) -> str:
        """The precision of the answers: that of the training. `btcchat eval` may use another."""
        args, own = self.trainer.args, self.trainer.model.llm.dtype  # under DeepSpeed, the weights are cast
        return str(own if args.computes_in == torch.float32 else args.computes_in).removeprefix("torch.")

    def begin(self, trainer: Trainer) -> None:
        step = trainer.state.global_step
        if step:
            ranks = Ranks(trainer.args.process_index, trainer.args.world_size)
            self.best = ranks.from_first(self._best_before(step) if ranks.first else None)

    def _best_before(self, step: int) -> float:
        """The score to beat in a run that is resumed at ``step``: that of the best model up to that step."""
        self._rename()
        path = self.folder / "best" / SELECTION
        if not path.is_file():
            return -math.inf
        selection = cast(Selection, read_json(path, schema=Selection))
        return selection["value"] if selection["step"] <= step else -math.inf

    def after_step(self, trainer: Trainer) -> None:
        args = trainer.args
        if args.eval_strategy == "steps" and trainer.state.global_step % int(args.eval_steps or 1) == 0:
            self.evaluate(trainer.state.global_step)

    def after_epoch(self, trainer: Trainer) -> None:
        if trainer.args.eval_strategy == "epoch":
            self.evaluate(trainer.state.global_step)

    def evaluate(self, step: int) -> None:
        with self.trainer.meter.paused():
            self._evaluate(step)

    def _evaluate(self, step: int) -> None:
        args, model = self.trainer.args, self.trainer.model
        ranks = Ranks(args.process_index, args.world_size)
        average_statistics(model)  # before, not only when it is saved: the answers are those of one model
        with args.autocast():
            texts = answer_all(model, self.sets, ranks, clues=self.clues)
        metrics = ranks.from_first(self._scores(texts, step) if ranks.first else None)
        self.trainer.log({f"eval_{name}": round(value, 6) for name, value in all_scores(metrics).items()})
        name, value = deciding_score(metrics, args.metric_for_best_model)
        if value > self.best:
            self.best = value
            selection: Selection = {
                "metric": name,
                "value": value,
                "step": step,
                "sets": [eval_set.name for eval_set in self.sets],
                "test splits": _test_splits(self.sets),
                "precision": self.precision,
            }
            self._keep(ranks, selection)

    def _scores(self, texts: dict[str, str], step: int) -> EvaluationMetrics:
        """Write predictions.jsonl and metrics.json, and return the latter. texts: id -> answer."""
        run = RunFolder(self.folder / "evaluations" / f"step-{step}")
        run.path.mkdir(parents=True, exist_ok=True)
        samples = [sample for eval_set in self.sets for sample in eval_set.samples]
        run.write(PREDICTIONS, [prediction_row(sample, texts[sample.id]) for sample in samples])
        sets = {}
        for eval_set in self.sets:
            answers = [texts[sample.id] for sample in eval_set.samples]
            sets[eval_set.name] = score_set(eval_set, answers, intervals=False)
        metrics: EvaluationMetrics = {"step": step, "precision": self.precision, "sets": sets}
        run.write(METRICS_FILE, {**metrics})
        return metrics

    def _keep(self, ranks: Ranks, selection: Selection) -> None:
        """Save the current model as best/. Every process must call it: under ZeRO-3 each holds a piece of the model."""
        folder = self.folder / NEXT
        if ranks.first:
            (folder / SELECTION).unlink(missing_ok=True)
        self.trainer.save_model(folder)
        if ranks.first:
            RunFolder(folder).write(SELECTION, {**selection})
            self._rename()
            step, metric, value = selection["step"], selection["metric"], selection["value"]
            logger.info("step %d is the best by %s so far: %.2f", step, metric, value)

    def _rename(self) -> None:
        """Rename a complete best.partial/ to best/, so that selection.json always belongs to the weights beside it."""
        if (self.folder / NEXT / SELECTION).is_file():
            delete(self.folder / "best")
            (self.folder / NEXT).rename(self.folder / "best")


def answer_all(model: BTCChat, sets: list[EvalSet], ranks: Ranks, *, clues: ClueSource | None = None) -> dict[str, str]:
    """id -> answer, in every process.

    Each process answers the same number of batches, because under ZeRO-3 they run each layer together.
    """
    all_batches = [batch for eval_set in sets for batch in batches(eval_set.samples, BATCH_SIZE)]
    mine = all_batches[ranks.number :: ranks.world]
    if len(mine) < math.ceil(len(all_batches) / ranks.world):
        mine.append(all_batches[0])
    answers: dict[str, str] = {}
    training = model.training
    model.eval()
    try:
        for _ in sweep(model, mine, [Answering((), answers.update, GenerationOptions(LONGEST), clues)]):
            pass
    finally:
        model.train(training)
    return {name: text for share in ranks.gather(answers) for name, text in share.items()}


def all_scores(metrics: EvaluationMetrics) -> dict[str, float]:
    """Every score by its name, which begins with the set's name if there are several sets."""
    scores: dict[str, float] = {}
    for name, set_scores in metrics["sets"].items():
        prefix = f"{name} " if len(metrics["sets"]) > 1 else ""
        scores |= {prefix + score: value for score, value in _named_scores(set_scores).items()}
    return scores


def _named_scores(scores: SetScores) -> dict[str, float]:
    """The scores of one set by their names, without those that it does not have."""
    if scores["kind"] != CAPTIONS:
        rows = scores.get("scores")
        return {name: row["accuracy"] for name, row in rows.items()} if rows else {ACCURACY: scores["accuracy"]}
    named = {metric: scores["scores"]["all"][metric] for metric in METRICS}
    for subset in SUBSETS:
        named |= {f"{subset} {metric}": scores["scores"].get(subset, {}).get(metric) for metric in METRICS}
    if scores["changed_or_unchanged"]:
        named[CHANGED_ACCURACY] = scores["changed_or_unchanged"]["accuracy"]
    named |= {f"{kind} F1": row["F1"] for kind, row in scores["factuality"].items()}
    return {name: value for name, value in named.items() if value is not None}


def deciding_score(metrics: EvaluationMetrics, requested: str | None) -> tuple[str, float]:
    """The score that selects the best model, and its mean over the sets that have it.

    It is ``requested`` (--metric_for_best_model) if given, otherwise S*m, overall or accuracy.
    """
    sets = [_named_scores(scores) for scores in metrics["sets"].values()]
    for name in [requested] if requested else KEY_SCORES:
        values = [scores[name] for scores in sets if name in scores]
        if values:
            return name, sum(values) / len(values)
    raise _unknown_score(requested, dict.fromkeys(name for scores in sets for name in scores))


def score_names(eval_set: EvalSet) -> list[str]:
    """The scores that a set will have, named as in `all_scores`."""
    texts = [sample.references[0] for sample in eval_set.samples]
    rows = rows_of(eval_set, texts)
    if eval_set.kind == CLASSES:
        return [ACCURACY]
    if eval_set.kind != CAPTIONS:
        return list(groups(right_answers(eval_set.kind, rows)[1]))
    names = list(METRICS)
    if len(set(changed_rows(rows))) == 2:
        names += [f"{subset} {metric}" for subset in SUBSETS for metric in METRICS]
        names.append(CHANGED_ACCURACY)
    claims = factuality(texts, [sample.references for sample in eval_set.samples])
    return names + [f"{kind} F1" for kind, row in claims.items() if row["F1"] is not None]


def _test_splits(sets: Iterable[EvalSet]) -> list[str]:
    return [eval_set.name for eval_set in sets if eval_set.is_test]


def _unknown_score(requested: str | None, names: Iterable[str]) -> BTCChatError:
    return BTCChatError(f"--metric_for_best_model is {requested}; choose from {', '.join(names)}")
