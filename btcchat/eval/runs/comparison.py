"""Two models' answers to the same pairs or questions, compared on the same draws of them."""

from collections.abc import Sequence

from btcchat.errors import BTCChatError
from btcchat.eval.answers.accuracy import ALL, differences, differences_text, right_answers
from btcchat.eval.captions.bootstrap import DRAWS, difference
from btcchat.eval.captions.card import left_out
from btcchat.eval.captions.changes import changed_rows
from btcchat.eval.captions.counts import METRICS
from btcchat.eval.captions.predictions import Predictions, paired
from btcchat.eval.captions.presets import build_preset
from btcchat.eval.captions.score import count_captions
from btcchat.eval.runs.finished import RunSet
from btcchat.eval.runs.metrics import selected_text
from btcchat.eval.runs.samples import CAPTIONS, CLASSES


def comparison(
    first: Predictions,
    second: Predictions,
    *,
    names: tuple[str, str],
    preset: str = "levir-cc",
    java: str | None = None,
) -> dict:
    """Two runs over the same pairs (`read_both`), of all pairs and of the changed ones; `comparison_text` prints it."""
    rows, count = first.rows, len(first.rows)
    changed = changed_rows(rows)
    texts = [row.prediction for row in (*rows, *second.rows)]
    sets = {"all": range(count), "changed only": [number for number in range(count) if changed[number]]}
    parts = {(name, run): [run * count + number for number in one] for name, one in sets.items() for run in (0, 1)}
    counts = count_captions(texts, [row.references for row in rows] * 2, preset=preset, parts=parts, java=java)
    notes = [f"{letter}: {note}" for letter, read in zip("AB", (first, second), strict=True) for note in left_out(read)]
    result: dict = {"preset": preset, "runs": list(names), "draws": DRAWS, "notes": notes, "parts": {}}
    for name in sets:
        if (name, 0) not in counts:
            continue
        a, b = counts[name, 0], counts[name, 1]
        ends, p = difference(a, b)
        columns = zip(METRICS, a.scores().tolist(), b.scores().tolist(), ends.T.tolist(), p.tolist(), strict=True)
        result["parts"][name] = {
            "pairs": len(a.rouge_l),
            **{metric: {"scores": [x, y], "difference": y - x, "95 %": z, "p": p} for metric, x, y, z, p in columns},
        }
    return result


def comparison_text(result: dict) -> str:
    preset = result["preset"]
    lines = [f"preset {preset}: {build_preset(preset).about}; all scores x100", "", *_runs(result)]
    for name, part in result["parts"].items():
        title = f"{name}, {part['pairs']} pairs"
        lines += ["", f"{title:24}       A       B     B - A   95 % interval            p"]
        for metric in METRICS:
            one = part[metric]
            low, high = one["95 %"]
            numbers = f"{one['scores'][0]:7.2f} {one['scores'][1]:7.2f} {one['difference']:+9.2f}"
            lines.append(f"{metric:>24} {numbers}   {low:+7.2f} to {high:+6.2f} {one['p']:9.3f}")
    return "\n".join([*lines, "", _about_p(result, "pairs"), *(f"note: {note}" for note in result["notes"])])


def run_comparison(first: Sequence[RunSet], second: Sequence[RunSet], *, names: tuple[str, str], **options) -> dict:
    """Two runs with questions or classes in them, set by set; `run_comparison_text` prints it. options: of captions."""
    sets = [" + ".join(one.name for one in run) for run in (first, second)]
    if sets[0] != sets[1]:
        a, b = (f"{name} is {f'of {of}' if of else 'a file'}" for name, of in zip(names, sets, strict=True))
        raise BTCChatError(f"{a}, {b}; compare two runs of the same data sets")
    result: dict = {"runs": list(names), "draws": DRAWS, "sets": {}}
    for one, other in zip(first, second, strict=True):
        pair = paired(Predictions(one.rows), Predictions(other.rows), *names)
        if one.kind == CAPTIONS:
            result["sets"][one.name] = comparison(*pair, names=names, **options)
            continue
        (right, types), (others, _) = (right_answers(one.kind, run.rows, ranges=one.ranges) for run in pair)
        rows = differences(right, others, types)
        result["sets"][one.name] = {"accuracy": {ALL: rows[ALL]} if one.kind == CLASSES else rows}
    return result


def run_comparison_text(result: dict) -> str:
    blocks = ["\n".join(_runs(result))]
    for name, one in result["sets"].items():
        body = differences_text(one["accuracy"]) if "accuracy" in one else comparison_text(one)
        blocks.append(f"{name}, accuracy in percent\n\n{body}" if "accuracy" in one else f"{name}\n\n{body}")
    return "\n\n".join([*blocks, _about_p(result, "questions")])


def _runs(result: dict) -> list[str]:
    lines = []
    for letter, name, chosen in zip("AB", result["runs"], result.get("selected", (None, None)), strict=True):
        lines += [f"{letter}: {name}", *([f"   {selected_text(chosen)}"] if chosen else [])]
    return lines


def _about_p(result: dict, what: str) -> str:
    return f"p: two-sided, by paired bootstrap over {result['draws']} draws of the {what}"
