"""The curves of the training that produced a model folder, as SVG."""

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from btcchat.train.checkpoints import checkpoints
from btcchat.train.run_state import NAME, TrainState

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 380, 150, 52, 8, 20
NAMES = ("loss", "learning_rate", "grad_norm")
SCORES = ("S*m", "overall", "accuracy", "changed only CIDEr-D")  # from evaluations during training


def training_log(model: str) -> tuple[Path, list[dict[str, Any]]] | None:
    """The log of a model's training: from its end, from its last checkpoint, or from the run that selected it."""
    folder = Path(model)
    places = [folder, *checkpoints(folder)[::-1]]
    if folder.name == "best":  # in a run with --eval_mixture
        places += [folder.parent, *checkpoints(folder.parent)[::-1]]
    for place in places:
        path = place / NAME
        if path.is_file():
            return path, TrainState.read(place).log_history
    return None


def curves(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """One SVG for each of NAMES and SCORES that was logged at two steps or more."""
    titles = {name: name for name in NAMES}
    logged = sorted({name for line in lines for name in line if name.startswith("eval_")})
    ends = re.compile(rf"eval_(\S+ )?({'|'.join(map(re.escape, SCORES))})")  # after the name of a set, or alone
    titles |= {name: name.removeprefix("eval_") for name in logged if ends.fullmatch(name)}
    figures = []
    for name, title in titles.items():
        points = [(line["step"], line[name]) for line in lines if _number(line.get(name)) and _number(line.get("step"))]
        if len(points) > 1:
            figures.append(curve(title, points))
    return figures


def curve(title: str, points: Sequence[tuple[float, float]]) -> str:
    """A line through (step, value), with the ends of both axes."""
    (x0, x1), (y0, y1) = ((min(values), max(values)) for values in zip(*points, strict=True))
    across, up = WIDTH - LEFT - 8, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> str:
        right = (x - x0) / (x1 - x0) if x1 > x0 else 0.5
        high = (y - y0) / (y1 - y0) if y1 > y0 else 0.5
        return f"{LEFT + across * right:.1f},{TOP + up * (1 - high):.1f}"

    base = TOP + up
    texts = [(LEFT - 6, TOP + 4, "end", f"{y1:.4g}"), (LEFT - 6, base + 4, "end", f"{y0:.4g}")]
    texts += [(LEFT, HEIGHT - 4, "start", f"step {x0:g}"), (WIDTH - 8, HEIGHT - 4, "end", f"{x1:g}")]
    labels = "".join(f'<text x="{x}" y="{y}" text-anchor="{a}">{escape(t)}</text>' for x, y, a, t in texts)
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg width="{WIDTH}" height="{HEIGHT}" role="img">'
        f'<line x1="{LEFT}" y1="{TOP}" x2="{LEFT}" y2="{base}"/>'
        f'<line x1="{LEFT}" y1="{base}" x2="{WIDTH - 8}" y2="{base}"/>'
        f'<polyline points="{" ".join(place(*point) for point in points)}"/>{labels}</svg></figure>'
    )


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
