"""Two models' captions of the same pairs, compared on the same draws of the pairs."""

from btcchat.eval.bootstrap import DRAWS, difference
from btcchat.eval.changes import changed_rows
from btcchat.eval.counts import METRICS
from btcchat.eval.predictions import Predictions
from btcchat.eval.presets import PRESETS
from btcchat.eval.score import count_captions


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
    result: dict = {"preset": preset, "runs": list(names), "draws": DRAWS, "parts": {}}
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
    lines = [f"preset {preset}: {PRESETS[preset].about}; all scores x100", ""]
    lines += [f"{letter}: {name}" for letter, name in zip("AB", result["runs"], strict=True)]
    for name, part in result["parts"].items():
        title = f"{name}, {part['pairs']} pairs"
        lines += ["", f"{title:24}       A       B     B - A   95 % interval            p"]
        for metric in METRICS:
            one = part[metric]
            low, high = one["95 %"]
            numbers = f"{one['scores'][0]:7.2f} {one['scores'][1]:7.2f} {one['difference']:+9.2f}"
            lines.append(f"{metric:>24} {numbers}   {low:+7.2f} to {high:+6.2f} {one['p']:9.3f}")
    return "\n".join([*lines, "", f"p: two-sided, by paired bootstrap over {result['draws']} draws of the pairs"])
