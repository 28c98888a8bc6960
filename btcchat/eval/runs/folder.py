"""The folder of an evaluation, from which an interrupted one is resumed.

run.json            what is evaluated: model, data, options; written before the first answer
parts/N.jsonl       the answers of process N as they come; each batch is on disk before the next one starts
predictions.jsonl   all of them in the order of the data, with their references
metrics.json        the scores
change_maps/ID.png  where each pair has changed, 8-bit grey (H, W), white for most; `map_path` turns ID into a file name
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from btcchat.errors import BTCChatError
from btcchat.eval.runs.schema import RunFile
from btcchat.files import Appender, cannot_write, read_json, read_rows, temporary_files, write_json, write_rows
from btcchat.outputs.lock import Lock, beside, check_free

PREDICTIONS, METRICS, RUN = "predictions.jsonl", "metrics.json", "run.json"
RESUMED = "the files written so far are complete; run the same command again to resume"  # after a write error
BROKEN = "run btcchat eval again with another --out"  # after a damaged run.json
OTHER = "wait for it, or give another --out"
REMOVE = "delete this file, then run btcchat eval again"  # after another damaged file, which is then recreated


def map_path(folder: str | Path, sample_id: str) -> Path:
    """The path of a sample's change map: every id, of any characters and length, has a file name of its own."""
    name = quote(sample_id, safe="", errors="backslashreplace")
    name = name if len(name) <= 200 else hashlib.sha256(name.encode()).hexdigest()
    return Path(folder) / "change_maps" / f"{name}.png"


class RunFolder:
    """A run's files. The methods are for the first process; each process writes its answers to `part`."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._lock: Lock | None = None

    def start(self, run: dict[str, Any]) -> dict[str, str]:
        """Claim the folder for ``run``; return the answers by id that it already holds.

        Raises BTCChatError if it holds a run of another model, data or options, or if another process writes to it.
        """
        if self.path.exists() and not self.path.is_dir():
            raise BTCChatError(f"--out {self.path} is a file; give a folder")
        run_file = self.path / RUN
        if self.path.is_dir() and not run_file.is_file() and self._has_other_files():
            raise BTCChatError(f"--out {self.path} contains other files but no {RUN}; give a new folder")
        if run_file.is_file():
            _check_same(self.path, read_json(run_file, schema=RunFile, way_out=BROKEN), run)
        try:
            (self.path / "parts").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(f"--out {self.path}", error) from error
        self._lock = Lock(self.path / ".lock", str(self.path), OTHER)
        try:
            for path in (self.path / "parts").glob(".*.lock"):  # a process whose launcher was killed may still write
                check_free(path, str(self.path), OTHER)
            for path in temporary_files(self.path):  # no process writes them now
                path.unlink()
            if not run_file.is_file():
                self.write(RUN, run)
            return self.answers()
        except BaseException:
            self.close()
            raise

    def _has_other_files(self) -> bool:
        """Whether there are files other than those of a run that was stopped before it wrote run.json."""
        expected = {self.path / ".lock", self.path / "parts", *temporary_files(self.path)}
        return any(path not in expected for path in self.path.iterdir()) or any(self.path.glob("parts/*"))

    def close(self) -> None:
        """Release the folder."""
        if self._lock is not None:
            self._lock.release()

    def part(self, rank: int) -> "AnswerPart":
        return AnswerPart(self.path / "parts" / f"{rank}.jsonl")

    def answers(self) -> dict[str, str]:
        """Map ids to answers, from all parts. An incomplete last line, left by an interrupted run, is ignored."""
        fault = "is not an answer; delete that line and rerun to ask the sample again"
        answers: dict[str, str] = {}
        for path in sorted((self.path / "parts").glob("*.jsonl")):
            for number, row in read_rows(path, fault):
                key, text = row.get("id"), row.get("prediction")
                if not isinstance(key, str) or not isinstance(text, str):
                    raise BTCChatError(f"{path} line {number} {fault}")
                if answers.setdefault(key, text) != text:
                    raise BTCChatError(f"{path} line {number}: another answer for '{key}'; delete one of them")
        return answers

    def write(self, name: str, content: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Write a dict as JSON, or a list of them as JSON lines; completely or not at all."""
        if isinstance(content, list):
            write_rows(self.path / name, content, way_out=RESUMED, sync=True)
        else:
            write_json(self.path / name, content, way_out=RESUMED, sync=True)


class AnswerPart:
    """The answers of one process; `write` returns once they are on disk, and writes all of them or none."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = Lock(beside(path), str(path.parents[1]), OTHER)
        self._rows = Appender(path, way_out=RESUMED)

    def write(self, answers: dict[str, str]) -> None:
        self._rows.append({"id": name, "prediction": text} for name, text in answers.items())

    def __enter__(self) -> "AnswerPart":
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()
        self._lock.release()


def _check_same(path: Path, stored: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Check that the run in a folder is the one to resume."""
    stored_model, model = stored.get("model", {}), run["model"]
    if stored_model.get("fingerprint") != model["fingerprint"]:
        old, new = (f"{m.get('path')} ({str(m.get('fingerprint'))[:12]})" for m in (stored_model, model))
        raise BTCChatError(f"{path} is an evaluation of the model {old}, not {new}; give another --out")
    names = [
        ", ".join(f"{s['set']} ({s['samples']} samples)" for s in data)
        for data in (stored.get("data", []), run["data"])
    ]
    if names[0] != names[1]:
        raise BTCChatError(f"{path} is an evaluation on {names[0]}, not {names[1]}; give another --out")
    if stored.get("data") != run["data"]:
        raise BTCChatError(f"{path} is an evaluation on {names[0]} before its rows changed; give another --out")
    versions = {} if stored.get("finished") else stored.get("versions", {})
    for name, value in run.get("versions", {}).items():
        if versions.get(name, value) != value:
            raise BTCChatError(f"{path} was started with {name} {versions[name]}, not {value}; give another --out")
    options = stored.get("options", {})
    for name in {**options, **run["options"]}:
        stored_value, value = options.get(name), run["options"].get(name)
        if stored_value != value:
            flag = name.replace("_", "-")
            raise BTCChatError(f"{path} was started with --{flag} {stored_value}, not {value}; give another --out")
