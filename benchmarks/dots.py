"""A chart of scores with intervals as SVG: a dot and a line for each row, several measures beside one another."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

ROW, LEFT, PANEL, GAP, TOP = 30, 170, 300, 40, 60
STYLE = "font-family:sans-serif;font-size:13px"


def dots(path: Path, title: str, names: Sequence[str], panels: dict[str, Sequence[tuple[float, float, float]]]) -> None:
    """Write ``path``. panels: measure -> (mean, low, high) for each name; each panel has a scale of its own, from 0."""
    width, height = LEFT + len(panels) * (PANEL + GAP), TOP + ROW * len(names) + 40
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" style="{STYLE}">']
    lines += [f'<rect width="{width}" height="{height}" fill="white"/>', _text(10, 22, title, "font-weight:bold")]
    lines += [_text(10, TOP + ROW * n + 20, name) for n, name in enumerate(names)]
    for number, (measure, rows) in enumerate(panels.items()):
        left = LEFT + number * (PANEL + GAP)
        low, high = min(0, *(row[1] for row in rows)), max(row[2] for row in rows)
        high = high if high > low else low + 1

        def place(value: float, left=left, low=low, high=high) -> float:
            return left + PANEL * (value - low) / (high - low)

        bottom = TOP + ROW * len(names)
        lines += [_text(left, TOP - 12, measure), _line(left, bottom, left + PANEL, bottom, "#888")]
        lines += [
            _text(place(value), bottom + 18, f"{value:.1f}", "text-anchor:middle;fill:#555") for value in (low, high)
        ]
        for row, (mean, start, end) in enumerate(rows):
            y = TOP + ROW * row + 15
            lines.append(_line(place(start), y, place(end), y, "#1f77b4", 3))
            lines.append(f'<circle cx="{place(mean):.1f}" cy="{y}" r="5" fill="#1f77b4"/>')
            lines.append(_text(place(mean), y - 8, f"{mean:.1f}", "text-anchor:middle;font-size:11px"))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text("\n".join([*lines, "</svg>"]) + "\n", encoding="utf-8")
    part.replace(path)


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" style="{style}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: int = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'
