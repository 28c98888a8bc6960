"""Evaluation while training: every so often the model answers a split, the scores are logged, the best model is kept.

OUTPUT_DIR/evaluations/step-N/    predictions.jsonl and metrics.json of each time
OUTPUT_DIR/best/                  the model that scored best, with selection.json: by what, where and when
"""

import logging
import math
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import TrainerCallback

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
from btcchat.eval.runs.samples import CAPTIONS, CLASSES, EvalSet, read_sets
from btcchat.eval.runs.sweep import batches, sweep
from btcchat.files import read_json
from btcchat.generation import GenerationOptions
from btcchat.train.checkpoints import delete

logger = logging.getLogger(__name__)

ACCURACY = "accuracy"
KEY_SCORES = ("S*m", "overall", ACCURACY)  # of captions, questions, classes
NEXT = "best.partial"  # what becomes best/, while it is written
BATCH_SIZE, LONGEST = 16, 128  # samples at a time; new tokens, as in `btcchat eval`


def read_eval_sets(args, data_args) -> list[EvalSet]:
    """The sets of --eval_mixture. Raises BTCChatError for a test split, unless it is said to be known as one."""
    if args.greater_is_better is False:  # True is what the Trainer makes of --metric_for_best_model
        raise BTCChatError("--greater_is_better False: of every score here the greater one is the better; leave it out")
    if args.eval_strategy not in ("no", "steps", "epoch"):
        raise BTCChatError(f"--eval_strategy is {args.eval_strategy}, expected no, steps or epoch")
    if (args.eval_strategy == "no") != (args.eval_mixture is None):
        raise BTCChatError("--eval_mixture and --eval_strategy steps or epoch go together; give both or neither")
    if args.eval_mixture is None:
        return []
    if args.eval_strategy == "steps" and not (args.eval_steps and args.eval_steps >= 1):
        raise BTCChatError("--eval_strategy steps needs --eval_steps N, the optimizer steps between two evaluations")
    where = {"data_root": data_args.data_root, "folder": data_args.mixture_folder}
    sets = read_sets(args.eval_mixture, split="val", **where)
    tests = [one.name for one in sets if one.is_test]
    if tests and not args.i_know_this_is_the_test_split:
        raise BTCChatError(
            f"--eval_mixture has the test split {tests[0]}, and the best model would be chosen on it; use a val split, "
            "or give --i_know_this_is_the_test_split True, and every report will say so"
        )
    names = dict.fromkeys(name for one in sets for name in score_names(one))
    if args.metric_for_best_model not in (None, *names):
        raise _no_score(args.metric_for_best_model, names)
    check_scoring(sets)
    return sets


class Evaluation(TrainerCallback):
    """Give to ``trainer.add_callback``; does nothing without sets. clues: an augment.ClueSource, of the training's."""

    def __init__(self, trainer, sets: list[EvalSet], clues: Callable | None = None):
        self.trainer, self.sets, self.clues = trainer, sets, clues
        self.folder = Path(trainer.args.output_dir)
        self.best = -math.inf

    @property
    def precision(self) -> str:
        """Of the answers: that of training, where `btcchat eval` may take another."""
        return "bfloat16" if self.trainer.args.bf16 else str(self.trainer.model.llm.dtype).removeprefix("torch.")

    def on_train_begin(self, args, state, control, **kwargs):
        if self.sets and state.global_step:
            ranks = Ranks(args.process_index, args.world_size)
            self.best = ranks.from_first(self._best_before(state.global_step) if ranks.first else None)

    def _best_before(self, step: int) -> float:
        """A run that is resumed at ``step`` goes on from the best model before it."""
        self._rename()
        path = self.folder / "best" / SELECTION
        kept = read_json(path, "value", "step") if path.is_file() else None
        return kept["value"] if kept and kept["step"] <= step else -math.inf

    def on_step_end(self, args, state, control, **kwargs):
        if args.eval_strategy == "steps" and state.global_step % int(args.eval_steps) == 0:
            self.evaluate(state, control)

    def on_epoch_end(self, args, state, control, **kwargs):
        if args.eval_strategy == "epoch":
            self.evaluate(state, control)

    def evaluate(self, state, control) -> None:
        if not self.sets:
            return
        args, model = self.trainer.args, self.trainer.model
        ranks = Ranks(args.process_index, args.world_size)
        texts = answer_all(model, self.sets, ranks, bf16=args.bf16, clues=self.clues)
        metrics = ranks.from_first(self._scores(texts, state.global_step) if ranks.first else None)
        loss_is_due = control.should_log
        self.trainer.log({f"eval_{name}": value for name, value in flat(metrics).items()})
        control.should_log = loss_is_due  # which the Trainer takes for done with any line of its log
        name, value = chosen(metrics, args.metric_for_best_model)
        if value > self.best:
            self.best = value
            self._keep(ranks, {"metric": name, "value": value, "step": state.global_step})

    def _scores(self, texts: dict[str, str], step: int) -> dict:
        run = RunFolder(self.folder / "evaluations" / f"step-{step}")
        run.path.mkdir(parents=True, exist_ok=True)
        samples = [sample for one in self.sets for sample in one.samples]
        run.write(PREDICTIONS, [prediction_row(sample, texts[sample.id]) for sample in samples])
        said = {one.name: [texts[sample.id] for sample in one.samples] for one in self.sets}
        head = {"step": step, "precision": self.precision}
        metrics = head | {"sets": {s.name: score_set(s, said[s.name], intervals=False) for s in self.sets}}
        run.write(METRICS_FILE, metrics)
        return metrics

    def _keep(self, ranks: Ranks, selection: dict) -> None:
        """The model as it is now becomes best/. Every process takes part: under ZeRO-3 each has a piece of it."""
        folder = self.folder / NEXT
        if ranks.first:
            (folder / SELECTION).unlink(missing_ok=True)
        self.trainer.save_model(str(folder))
        if ranks.first:
            tests = [one.name for one in self.sets if one.is_test]
            selection |= {"sets": [one.name for one in self.sets], "test splits": tests, "precision": self.precision}
            RunFolder(folder).write(SELECTION, selection)
            self._rename()
            logger.info("step %d is the best by %s so far: %.2f", *(selection[n] for n in ("step", "metric", "value")))

    def _rename(self) -> None:
        """What is whole, with its selection, becomes best/: a stop leaves no weights beside the selection of others."""
        if (self.folder / NEXT / SELECTION).is_file():
            delete(self.folder / "best")
            (self.folder / NEXT).rename(self.folder / "best")


def answer_all(
    model: BTCChat, sets: list[EvalSet], ranks: Ranks, *, bf16: bool = False, clues: ClueSource | None = None
) -> dict[str, str]:
    """id -> answer, in every process. All answer as many batches: under ZeRO-3 they go through each layer together."""
    groups = [batch for one in sets for batch in batches(one.samples, BATCH_SIZE)]
    mine = groups[ranks.number :: ranks.world]
    if len(mine) < math.ceil(len(groups) / ranks.world):
        mine.append(groups[0])
    found: dict[str, str] = {}
    training = model.training
    model.eval()
    try:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            for _ in sweep(model, mine, [Answering((), found.update, GenerationOptions(LONGEST), clues)]):
                pass
    finally:
        model.train(training)
    return {name: text for part in ranks.gather(found) for name, text in part.items()}


def flat(metrics: dict) -> dict[str, float]:
    """Every score by its name; where there are several sets, behind the set's."""
    found = {}
    for name, scores in metrics["sets"].items():
        prefix = f"{name} " if len(metrics["sets"]) > 1 else ""
        found |= {prefix + score: value for score, value in _of_set(scores).items()}
    return found


def _of_set(scores: dict) -> dict[str, float]:
    if scores["kind"] != CAPTIONS:
        rows = scores.get("scores")
        return {name: row["accuracy"] for name, row in rows.items()} if rows else {ACCURACY: scores["accuracy"]}
    found = {metric: scores["scores"]["all"][metric] for metric in METRICS}
    for part in ("changed only", "unchanged only"):
        found |= {f"{part} {metric}": scores["scores"].get(part, {}).get(metric) for metric in METRICS}
    if scores["changed_or_unchanged"]:
        found["changed/unchanged accuracy"] = scores["changed_or_unchanged"]["accuracy"]
    found |= {f"{kind} F1": row["F1"] for kind, row in scores["factuality"].items()}
    return {name: value for name, value in found.items() if value is not None}


def chosen(metrics: dict, asked: str | None) -> tuple[str, float]:
    """The score that decides: --metric_for_best_model, or S*m, overall or accuracy; of several sets, the mean."""
    scores = [_of_set(one) for one in metrics["sets"].values()]
    for name in [asked] if asked else KEY_SCORES:
        values = [one[name] for one in scores if name in one]
        if values:
            return name, sum(values) / len(values)
    raise _no_score(asked, dict.fromkeys(name for one in scores for name in one))


def score_names(one: EvalSet) -> list[str]:
    """The scores that a set will have, as `flat` names them."""
    rows = rows_of(one, [sample.references[0] for sample in one.samples])
    if one.kind == CLASSES:
        return [ACCURACY]
    if one.kind != CAPTIONS:
        return list(groups(right_answers(one.kind, rows)[1]))
    found = list(METRICS)
    if len(set(changed_rows(rows))) == 2:
        found += [f"{part} {metric}" for part in ("changed only", "unchanged only") for metric in METRICS]
        found.append("changed/unchanged accuracy")
    claims = factuality([row.prediction for row in rows], [row.references for row in rows])
    return found + [f"{kind} F1" for kind, row in claims.items() if row["F1"] is not None]


def _no_score(asked: str | None, names) -> BTCChatError:
    return BTCChatError(f"--metric_for_best_model is {asked}; choose from {', '.join(names)}")
