"""Reading the folder of a finished evaluation again, to score, compare or show it."""

from dataclasses import dataclass
from pathlib import Path

from btcchat.errors import BTCChatError
from btcchat.eval.answers.answers import RANGES
from btcchat.eval.captions.predictions import Prediction, read_parts
from btcchat.eval.runs.folder import BROKEN, METRICS, PREDICTIONS, REMOVE, RUN
from btcchat.files import read_json


@dataclass(frozen=True)
class RunSet:
    """One data set of a run: what metrics.json says of it, and its rows in the order of the data."""

    name: str
    scores: dict
    rows: list[Prediction]

    @property
    def kind(self) -> str:
        return self.scores["kind"]

    @property
    def ranges(self) -> str | None:
        """The type of question that is held to ranges."""
        return RANGES.get(self.scores["data kind"])


def is_run(path: str | Path) -> bool:
    return (Path(path) / RUN).is_file()


def predictions_file(path: str | Path) -> str:
    """A file of predictions as it is; of a run folder, its own."""
    if not is_run(path):
        return str(path)
    return str(_finished(Path(path), PREDICTIONS))


def read_run(path: str | Path) -> tuple[dict, dict, list[RunSet]]:
    """-> run.json, metrics.json and the sets. Raises BTCChatError where ``path`` is no finished run."""
    path = Path(path)
    if not is_run(path):
        raise BTCChatError(f"{path} is no run folder of btcchat eval: it has no {RUN}")
    metrics = read_json(_finished(path, METRICS), "preset", "sets", way_out=REMOVE)
    sizes = [scores["samples"] for scores in metrics["sets"].values()]
    parts = zip(metrics["sets"].items(), read_parts(_finished(path, PREDICTIONS), sizes), strict=True)
    run = read_json(path / RUN, "model", "data", "options", "versions", "processes", way_out=BROKEN)
    return run, metrics, [RunSet(name, scores, rows) for (name, scores), rows in parts]


def sets_of(path: str | Path) -> list[RunSet]:
    """Those of a run folder; none of a file of predictions, nor of a run that has no scores yet."""
    return read_run(path)[2] if is_run(path) and (Path(path) / METRICS).is_file() else []


def selected_of(path: str | Path) -> dict | None:
    """How the checkpoint of a run was chosen while training; None of a file of predictions, and where nobody knows."""
    return read_json(Path(path) / RUN, way_out=BROKEN).get("selected") if is_run(path) else None


def _finished(path: Path, name: str) -> Path:
    if not (path / name).is_file():
        raise BTCChatError(f"the run in {path} is not finished; the same btcchat eval again goes on with it")
    return path / name
