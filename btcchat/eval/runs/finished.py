"""Read the folder of a finished evaluation, to score, compare or show it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from btcchat.checkpoint.facts import Prompts
from btcchat.errors import BTCChatError
from btcchat.eval.answers.answers import RANGES
from btcchat.eval.captions.predictions import Prediction, read_parts
from btcchat.eval.runs.folder import BROKEN, METRICS, PREDICTIONS, REMOVE, RUN
from btcchat.eval.runs.schema import MetricsFile, RunData, RunFile, RunModel, Selection, SetScores
from btcchat.files import read_json


@dataclass(frozen=True)
class RunSet:
    """One data set of a run: its entry in metrics.json, and its rows in the order of the data."""

    name: str
    scores: SetScores
    rows: list[Prediction]

    @property
    def kind(self) -> str:
        return self.scores["kind"]

    @property
    def ranges(self) -> str | None:
        """The type of question for which the right range is enough."""
        return RANGES.get(self.scores["data kind"] or "")


@dataclass(frozen=True)
class Run:
    """run.json and metrics.json of a finished run, and its sets."""

    model: RunModel
    data: list[RunData]
    request: dict[str, Any] | None  # the arguments of `read_sets`; None in a run of an older version
    options: dict[str, Any]
    prompts: Prompts | None  # None in a run of an older version
    versions: dict[str, str]
    processes: int
    preset: str
    selected: Selection | None
    sets: list[RunSet]


def is_run(path: str | Path) -> bool:
    return (Path(path) / RUN).is_file()


def predictions_file(path: str | Path) -> str:
    """The predictions file of a run folder; any other path is returned unchanged."""
    if Path(path).is_dir() and not is_run(path):
        raise BTCChatError(f"{path} is not a run of btcchat eval, since it has no {RUN}; give a run, or a file")
    if not is_run(path):
        return str(path)
    return str(_finished(Path(path), PREDICTIONS))


def read_run(path: str | Path) -> Run:
    """Read the run folder ``path``. Raises BTCChatError if it is not a finished run."""
    path = Path(path)
    if not is_run(path):
        raise BTCChatError(f"{path} is not a run folder of btcchat eval: it has no {RUN}")
    metrics = read_json(_finished(path, METRICS), "preset", "sets", schema=MetricsFile, way_out=REMOVE)
    sizes = [scores["samples"] for scores in metrics["sets"].values()]
    parts = zip(metrics["sets"].items(), read_parts(_finished(path, PREDICTIONS), sizes), strict=True)
    keys = ("model", "data", "options", "versions", "processes")
    run = read_json(path / RUN, *keys, schema=RunFile, way_out=BROKEN)
    return Run(
        model=run["model"],
        data=run["data"],
        request=run.get("asked"),
        options=run["options"],
        prompts=run.get("prompts"),
        versions=run["versions"],
        processes=run["processes"],
        preset=metrics["preset"],
        selected=metrics.get("selected"),
        sets=[RunSet(name, scores, rows) for (name, scores), rows in parts],
    )


def sets_of(path: str | Path) -> list[RunSet]:
    """The sets of a run folder; [] for a file of predictions, or a run that has no scores yet."""
    return read_run(path).sets if is_run(path) and (Path(path) / METRICS).is_file() else []


def selected_of(path: str | Path) -> Selection | None:
    """How the checkpoint of a run was chosen during training; None for a file of predictions, or if unknown."""
    if not is_run(path):
        return None
    selected: Selection | None = read_json(Path(path) / RUN, schema=RunFile, way_out=BROKEN).get("selected")
    return selected


def _finished(path: Path, name: str) -> Path:
    if not (path / name).is_file():
        raise BTCChatError(f"the run in {path} is not finished; run the same btcchat eval command again to resume it")
    return path / name
