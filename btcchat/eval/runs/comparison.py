"""Compare the answers of two models to the same pairs or questions, on the same bootstrap draws."""

from collections.abc import Sequence
from typing import Any, TypeAlias, TypedDict

from btcchat.errors import BTCChatError
from btcchat.eval.answers.accuracy import ALL, AccuracyDifference, differences, differences_text, right_answers
from btcchat.eval.captions.bootstrap import DRAWS, difference, p_of_scores, p_text, signed
from btcchat.eval.captions.card import left_out
from btcchat.eval.captions.changes import changed_rows
from btcchat.eval.captions.counts import METRICS
from btcchat.eval.captions.predictions import Predictions, paired
from btcchat.eval.captions.presets import build_preset
from btcchat.eval.captions.score import count_captions
from btcchat.eval.runs.finished import RunSet
from btcchat.eval.runs.metrics import selected_text
from btcchat.eval.runs.samples import CAPTIONS, CLASSES
from btcchat.eval.runs.schema import Selection

# "pairs", and for each of METRICS the scores of both runs, "difference" (second minus first) and its "95 %" and "p"
# (None if both scores are 0)
CaptionDifferences: TypeAlias = dict[str, Any]


class Comparison(TypedDict, total=False):
    """The output of ``btcchat compare --json``.

    For captions: runs, draws, preset, notes and parts. For runs with questions or classes: runs, draws and sets, where
    a set of captions is again a Comparison, and any other set has only ``accuracy``, by group.
    """

    runs: list[str]  # A and B
    draws: int
    preset: str
    notes: list[str]
    parts: dict[str, CaptionDifferences]  # "all", "changed only"
    sets: "dict[str, Comparison]"
    accuracy: dict[str, AccuracyDifference]
    # Added by the command:
    selected: list[Selection | None]  # how each checkpoint was chosen
    warnings: list[str]  # why the answers of the two runs are not comparable


def comparison(
    first: Predictions,
    second: Predictions,
    *,
    names: tuple[str, str],
    preset: str = "levir-cc",
    java: str | None = None,
) -> Comparison:
    """Compare two runs (`read_both`) over all and over the changed pairs; `comparison_text` formats the result."""
    rows, count = first.rows, len(first.rows)
    changed = changed_rows(rows)
    texts = [row.prediction for row in (*rows, *second.rows)]
    numbers = {"all": list(range(count)), "changed only": [number for number in range(count) if changed[number]]}
    parts = {f"A {name}": own for name, own in numbers.items()}
    parts |= {f"B {name}": [count + number for number in own] for name, own in numbers.items()}
    counts = count_captions(texts, [row.references for row in rows] * 2, preset=preset, parts=parts, java=java)
    notes = [f"{letter}: {note}" for letter, run in zip("AB", (first, second), strict=True) for note in left_out(run)]
    result: Comparison = {"preset": preset, "runs": list(names), "draws": DRAWS, "notes": notes, "parts": {}}
    for name in numbers:
        if f"A {name}" not in counts:
            continue
        a, b = counts[f"A {name}"], counts[f"B {name}"]
        ends, p = difference(a, b)
        columns = zip(METRICS, a.scores().tolist(), b.scores().tolist(), ends.T.tolist(), p.tolist(), strict=True)
        result["parts"][name] = {
            "pairs": len(a.rouge_l),
            **{
                metric: {"scores": [x, y], "difference": y - x, "95 %": z, "p": p_of_scores(p, (x, y))}
                for metric, x, y, z, p in columns
            },
        }
    return result


def comparison_text(result: Comparison) -> str:
    preset = result["preset"]
    lines = [f"preset {preset}: {build_preset(preset).about}; all scores x100", "", *_runs(result)]
    for name, part in result["parts"].items():
        title = f"{name}, {part['pairs']} pairs"
        lines += ["", f"{title:24}       A       B     B - A   95 % interval            p"]
        for metric in METRICS:
            row = part[metric]
            low, high = row["95 %"]
            numbers = f"{row['scores'][0]:7.2f} {row['scores'][1]:7.2f} {signed(row['difference']):>9}"
            lines.append(f"{metric:>24} {numbers}   {signed(low):>7} to {signed(high):>6} {p_text(row['p'])}")
    return "\n".join([*lines, "", _about_p(result, "pairs"), *(f"note: {note}" for note in result["notes"])])


def run_comparison(
    first: Sequence[RunSet],
    second: Sequence[RunSet],
    *,
    names: tuple[str, str],
    preset: str = "levir-cc",
    java: str | None = None,
) -> Comparison:
    """Compare two runs that include questions or classes, set by set; `run_comparison_text` formats the result.

    preset, java: for sets of captions, see `comparison`.
    """
    sets = [" + ".join(run_set.name for run_set in run) for run in (first, second)]
    if sets[0] != sets[1]:
        a, b = (f"{name} is {f'of {of}' if of else 'a file'}" for name, of in zip(names, sets, strict=True))
        raise BTCChatError(f"{a}, {b}; only runs on the same data sets can be compared")
    result: Comparison = {"runs": list(names), "draws": DRAWS, "sets": {}}
    for run_set, other in zip(first, second, strict=True):
        pair = paired(Predictions(run_set.rows), Predictions(other.rows), *names)
        if run_set.kind == CAPTIONS:
            result["sets"][run_set.name] = comparison(*pair, names=names, preset=preset, java=java)
            continue
        (right, types), (other_right, _) = (
            right_answers(run_set.kind, run.rows, ranges=run_set.ranges) for run in pair
        )
        rows = differences(right, other_right, types)
        result["sets"][run_set.name] = {"accuracy": {ALL: rows[ALL]} if run_set.kind == CLASSES else rows}
    return result


def run_comparison_text(result: Comparison) -> str:
    blocks = ["\n".join(_runs(result))]
    for name, compared in result["sets"].items():
        if "accuracy" in compared:
            blocks.append(f"{name}, accuracy in percent\n\n{differences_text(compared['accuracy'])}")
        else:
            blocks.append(f"{name}\n\n{comparison_text(compared)}")
    return "\n\n".join([*blocks, _about_p(result, "questions")])


def _runs(result: Comparison) -> list[str]:
    lines = []
    for letter, name, selected in zip("AB", result["runs"], result.get("selected", [None, None]), strict=True):
        lines += [f"{letter}: {name}", *([f"   {selected_text(selected)}"] if selected else [])]
    return lines + [f"warning: {warning}" for warning in result.get("warnings", [])]


def _about_p(result: Comparison, unit: str) -> str:
    return f"p: two-sided, from a paired bootstrap over {result['draws']} draws of the {unit}; none if both are 0"
