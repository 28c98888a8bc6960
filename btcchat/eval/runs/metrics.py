"""The scores of one set of an evaluation, by its kind."""

from collections.abc import Mapping, Sequence
from typing import Any

from btcchat.eval.answers.accuracy import ALL, right_answers
from btcchat.eval.answers.accuracy import intervals as accuracy_intervals
from btcchat.eval.answers.answers import (
    IN_RANGES,
    RANGES,
    ClassScores,
    class_scores,
    class_text,
    question_scores,
    question_text,
)
from btcchat.eval.captions.card import ScoreCard, card_text, score_card
from btcchat.eval.captions.java import eval_package, find_java
from btcchat.eval.captions.predictions import Prediction, Predictions
from btcchat.eval.captions.presets import build_preset
from btcchat.eval.maps.masks import mask_text
from btcchat.eval.runs.samples import CAPTIONS, CLASSES, EvalSet
from btcchat.eval.runs.schema import QuestionScores, Selection, SetScores


def score_set(
    eval_set: EvalSet,
    answers: Sequence[str],
    *,
    baselines: Mapping[str, Sequence[str]] | None = None,
    preset: str = "levir-cc",
    intervals: bool = True,
    java: str | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Score ``answers[i]`` for ``eval_set.samples[i]``; the result is a schema.SetScores. Options: see `score_rows`."""
    rows = rows_of(eval_set, answers)
    data_kind: str | None = eval_set.description.get("kind")
    scores = score_rows(
        eval_set.kind,
        rows,
        ranges=RANGES.get(data_kind or ""),
        baselines=baselines,
        preset=preset,
        intervals=intervals,
        java=java,
        notes=notes,
    )
    head = {"kind": eval_set.kind, "samples": len(rows), "test split": eval_set.is_test, "data kind": data_kind}
    return {**head, **scores}


def rows_of(eval_set: EvalSet, answers: Sequence[str]) -> list[Prediction]:
    return [
        Prediction(sample.id, text, tuple(sample.references), sample.changed, f"row {number}", sample.question_type)
        for number, (sample, text) in enumerate(zip(eval_set.samples, answers, strict=True), start=1)
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
) -> ScoreCard | QuestionScores | ClassScores:
    """The scores of one set. ranges: the type of question for which the right range is enough. baselines to notes: for
    captions."""
    if kind == CAPTIONS:
        predictions = Predictions(list(rows))
        return score_card(predictions, preset=preset, baselines=baselines, intervals=intervals, java=java, notes=notes)
    right, types = right_answers(kind, rows, ranges=ranges)
    ends = accuracy_intervals(right, types) if intervals else {}
    answers, truths = [row.prediction for row in rows], [row.references[0] for row in rows]
    if kind == CLASSES:
        table = class_scores(answers, truths)
        if ends:
            table["95 %"] = ends[ALL]
        return table
    scores = question_scores(answers, truths, types, ranges=ranges)
    for name, group_ends in ends.items():
        scores[name]["95 %"] = group_ends
    return {"in ranges": ranges, "scores": scores}


def check_scoring(sets: Sequence[EvalSet], *, preset: str = "levir-cc", java: str | None = None) -> None:
    """Raise BTCChatError for anything that scoring lacks, before hours are spent on answers."""
    build_preset(preset)
    if any(eval_set.kind == CAPTIONS for eval_set in sets):
        eval_package("pycocoevalcap")
        find_java(java)


def metrics_text(metrics: Mapping[str, Any]) -> str:
    """metrics.json as tables."""
    blocks = [selected_text(metrics["selected"])] if metrics.get("selected") else []
    sets: Mapping[str, SetScores] = metrics["sets"]
    for name, scores in sets.items():
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


def selected_text(selected: Selection) -> str:
    """How the checkpoint was chosen during training, as a sentence."""
    sets = ", ".join(f"{name}{' (A TEST SPLIT)' * (name in selected['test splits'])}" for name in selected["sets"])
    return f"this checkpoint was chosen by {selected['metric']} on {sets}"
