"""The scores of one set of an evaluation, by its kind."""

from collections.abc import Mapping, Sequence

from btcchat.eval.answers.accuracy import ALL, right_answers
from btcchat.eval.answers.accuracy import intervals as accuracy_intervals
from btcchat.eval.answers.answers import IN_RANGES, RANGES, class_scores, class_text, question_scores, question_text
from btcchat.eval.captions.card import card_text, score_card
from btcchat.eval.captions.java import eval_package, find_java
from btcchat.eval.captions.predictions import Prediction, Predictions
from btcchat.eval.captions.presets import build_preset
from btcchat.eval.maps.masks import mask_text
from btcchat.eval.runs.samples import CAPTIONS, CLASSES, EvalSet


def score_set(one: EvalSet, said: Sequence[str], **options) -> dict:
    """``said[i]`` answers ``one.samples[i]``; -> the scores, as metrics.json has them. options: of `score_rows`."""
    rows = rows_of(one, said)
    data_kind = one.description.get("kind")
    head = {"kind": one.kind, "samples": len(rows), "test split": one.is_test, "data kind": data_kind}
    return head | score_rows(one.kind, rows, ranges=RANGES.get(data_kind), **options)


def rows_of(one: EvalSet, said: Sequence[str]) -> list[Prediction]:
    return [
        Prediction(sample.id, text, tuple(sample.references), sample.changed, number, sample.question_type)
        for number, (sample, text) in enumerate(zip(one.samples, said, strict=True), start=1)
    ]


def score_rows(
    kind: str,
    rows: Sequence[Prediction],
    *,
    ranges: str | None = None,
    baselines: Mapping[str, Sequence[str]] | None = None,
    preset: str = "levir-cc",
    intervals: bool = True,
    java: str | None = None,
    notes: Sequence[str] = (),
) -> dict:
    """The scores of one set. ranges: the type of question held to ranges. baselines to notes: of captions."""
    rows = list(rows)
    if kind == CAPTIONS:
        options = {"preset": preset, "baselines": baselines, "intervals": intervals, "java": java, "notes": notes}
        return score_card(Predictions(rows), **options)
    right, types = right_answers(kind, rows, ranges=ranges)
    sure = accuracy_intervals(right, types) if intervals else {}
    said, truths = [row.prediction for row in rows], [row.references[0] for row in rows]
    if kind == CLASSES:
        return class_scores(said, truths) | ({"95 %": sure[ALL]} if sure else {})
    scores = question_scores(said, truths, types, ranges=ranges)
    return {
        "in ranges": ranges,
        "scores": {name: row | ({"95 %": sure[name]} if sure else {}) for name, row in scores.items()},
    }


def check_scoring(sets: Sequence[EvalSet], *, preset: str = "levir-cc", java: str | None = None) -> None:
    """Raise BTCChatError now for what scoring lacks, before a night of answers is lost to it."""
    build_preset(preset)
    if any(one.kind == CAPTIONS for one in sets):
        eval_package("pycocoevalcap")
        find_java(java)


def metrics_text(metrics: dict) -> str:
    """The tables of metrics.json."""
    blocks = [selected_text(metrics["selected"])] if metrics.get("selected") else []
    for name, scores in metrics["sets"].items():
        title = f"{name}, {scores['samples']} samples" + (" (a test split)" if scores["test split"] else "")
        if scores["kind"] == CAPTIONS:
            body = card_text(scores)
        elif scores["kind"] == CLASSES:
            body = class_text(scores)
        else:
            body = question_text(scores["scores"])
            body += f"\n{IN_RANGES[scores['in ranges']]}" if scores["in ranges"] else ""
        body += f"\n\n{mask_text(scores['change_map'])}" if "change_map" in scores else ""
        blocks.append(f"{title}\n\n{body}")
    return "\n\n".join(blocks)


def selected_text(chosen: dict) -> str:
    """How the checkpoint was chosen while training: what selection.json says."""
    where = ", ".join(f"{name}{' (A TEST SPLIT)' * (name in chosen['test splits'])}" for name in chosen["sets"])
    return f"this checkpoint was chosen by {chosen['metric']} on {where}"
