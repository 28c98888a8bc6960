"""The scores of one set of an evaluation, by its kind."""

from collections.abc import Mapping, Sequence

from btcchat.eval.answers import class_scores, class_text, question_scores, question_text, question_type
from btcchat.eval.card import card_text, score_card
from btcchat.eval.java import eval_package, find_java
from btcchat.eval.predictions import Predictions, Row
from btcchat.eval.presets import build_preset
from btcchat.eval.samples import CAPTIONS, CLASSES, EvalSet

RANGES = ("rsvqa_lr",)  # kinds of data set whose counts are held to ranges


def score_set(
    one: EvalSet,
    said: Sequence[str],
    *,
    baselines: Mapping[str, Sequence[str]] | None = None,
    preset: str = "levir-cc",
    intervals: bool = True,
    java: str | None = None,
) -> dict:
    """``said[i]`` answers ``one.samples[i]``; -> the scores, as metrics.json has them."""
    head = {"kind": one.kind, "samples": len(one.samples), "test split": one.is_test}
    truths = [sample.references for sample in one.samples]
    if one.kind == CAPTIONS:
        rows = [
            Row(sample.id, text, tuple(sample.references), sample.changed, number)
            for number, (sample, text) in enumerate(zip(one.samples, said, strict=True), start=1)
        ]
        return head | score_card(Predictions(rows), preset=preset, baselines=baselines, intervals=intervals, java=java)
    if one.kind == CLASSES:
        return head | class_scores(said, [given[0] for given in truths])
    types = [question_type(sample.question_type, sample.references[0]) for sample in one.samples]
    ranges = one.description.get("kind") in RANGES
    scores = question_scores(said, [given[0] for given in truths], types, ranges=ranges)
    return head | {"counts in ranges": ranges, "scores": scores}


def check_scoring(sets: Sequence[EvalSet], *, preset: str = "levir-cc", java: str | None = None) -> None:
    """Raise BTCChatError now for what scoring lacks, before a night of answers is lost to it."""
    build_preset(preset)
    if any(one.kind == CAPTIONS for one in sets):
        eval_package("pycocoevalcap")
        find_java(java)


def metrics_text(metrics: dict) -> str:
    """The tables of metrics.json."""
    blocks = []
    if metrics["selected"]:
        chosen = metrics["selected"]
        where = ", ".join(f"{name}{' (A TEST SPLIT)' * (name in chosen['test splits'])}" for name in chosen["sets"])
        blocks.append(f"this checkpoint was chosen by {chosen['metric']} on {where}")
    for name, scores in metrics["sets"].items():
        title = f"{name}, {scores['samples']} samples" + (" (a test split)" if scores["test split"] else "")
        if scores["kind"] == CAPTIONS:
            body = card_text(scores)
        elif scores["kind"] == CLASSES:
            body = class_text(scores)
        else:
            body = question_text(scores["scores"])
            body += "\nRSVQA-LR's counts are right in the range of the true one" if scores["counts in ranges"] else ""
        blocks.append(f"{title}\n\n{body}")
    return "\n\n".join(blocks)
