"""How the answers of a run were made, and where two runs differ in that."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from btcchat.eval.runs.finished import is_run
from btcchat.eval.runs.folder import BROKEN, RUN
from btcchat.eval.runs.schema import RunFile
from btcchat.files import read_json

SAMPLING = ("seed", "top_p")  # options without effect on greedy answers


def different_conditions(first: str | Path, second: str | Path) -> list[str]:
    """One line for each option or prompt in which two run folders differ; [] for files of predictions."""
    folders = [Path(path) for path in (first, second) if is_run(path)]
    runs = [read_json(folder / RUN, "options", schema=RunFile, way_out=BROKEN) for folder in folders]
    if len(runs) < 2:
        return []
    a, b = runs
    sampled = all(run["options"].get("temperature") for run in runs)
    options = [{k: v for k, v in run["options"].items() if sampled or k not in SAMPLING} for run in runs]
    lines = _differences(options[0], options[1])
    unknown = " and ".join(letter for letter, run in zip("AB", runs, strict=True) if "prompts" not in run)
    if unknown:
        return [*lines, f"the wording of the prompts is not recorded in {unknown} (an older version), and may differ"]
    return lines + _differences(a["prompts"], b["prompts"])


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    return [f"answered with different {name}: A {_shown(first, name)}, B {_shown(second, name)}" for name in names]


def _shown(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if value is None:
        return "not set"
    return json.dumps(value, ensure_ascii=False) if value == "" or " " in str(value) else str(value)
