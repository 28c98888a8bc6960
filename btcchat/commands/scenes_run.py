"""Run `btcchat scenes` with its flags: one run, many runs, or a plan."""

import argparse
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from btcchat.commands.options import complain, note_demonstration
from btcchat.console.ending import SOME_FAILED
from btcchat.console.messages import say
from btcchat.console.progress import Progress
from btcchat.data.pairs import read_csv
from btcchat.errors import BTCChatError
from btcchat.geo.engines import Batches, Rows
from btcchat.geo.engines.local import run_local
from btcchat.geo.engines.on_ray import RayOptions, Spec, run_ray
from btcchat.geo.facts import ModelFacts, model_facts
from btcchat.geo.folder import check, make_folder
from btcchat.geo.inputs import Files, find_files, stac_files
from btcchat.geo.outputs.write import by_model
from btcchat.geo.pair_model import BTCChatPairs, PairModel
from btcchat.geo.plan import Plan
from btcchat.geo.rows import FAILED
from btcchat.geo.scene_run import SceneRun, check_gsd, threshold_of
from btcchat.geo.settings import Settings

MEASURED = 2  # tiles timed in a dry run


@dataclass
class Loader:
    """Loads the model of a run where it is needed, also in another process, and only once in this one."""

    path: str | None
    options: dict[str, Any]
    settings: Settings
    _loaded: PairModel | None = field(default=None, repr=False)

    def __call__(self) -> PairModel:
        if self._loaded is None:
            from btcchat.checkpoint.extras import check_extras

            check_extras(self.path)
            from btcchat.api import BTCChat

            self._loaded = BTCChatPairs(BTCChat.from_pretrained(self.path, **self.options), self.settings.generation)
        return self._loaded

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_loaded": None}


class Request:
    """The flags of a command, and the model shared by all of its runs."""

    def __init__(self, args: argparse.Namespace, settings: Settings, model_options: dict[str, Any]) -> None:
        self.args, self.settings = args, settings
        self.load = Loader(args.model, model_options, settings)
        self._facts: ModelFacts | None = None
        self._options = {name: model_options[name] for name in ("base", "vision_tower") if name in model_options}

    @property
    def facts(self) -> ModelFacts:
        if self._facts is None:
            self._facts = model_facts(self.args.model, **self._options)
        return self._facts

    def check(self) -> None:
        """Raise BTCChatError for a model that cannot be used, before scenes are opened and compared."""
        note_demonstration(self.args.model)
        threshold_of(self.settings, self.facts)

    def files(self, sources: Sequence[Any]) -> list[Files]:
        remote = self.args.allow_remote
        if self.args.stac:
            return [stac_files(item, self.args.asset, allow_remote=remote) for item in sources]
        return [find_files(source, allow_remote=remote) for source in sources]

    def plan(self, sources: Sequence[Any]) -> Plan:
        return Plan(self.files(sources), self.settings, dates=self.args.dates or (), aoi=self.args.aoi)


def run_one(sources: Sequence[Any], request: Request) -> int:
    if not request.args.dry_run:
        check(Path(request.args.out), resume=request.args.resume)
    request.check()
    with request.plan(sources) as plan:
        if request.args.dry_run:
            return _dry_run(plan, request)
        record, failed = _run(plan, Path(request.args.out), request, resume=request.args.resume)
    _report(request.args, request.args.out, record)
    return SOME_FAILED if failed else 0


def run_list(path: str, request: Request) -> int:
    """Run every pair of the list; name those that fail, and return an exit code for failures."""
    out = Path(request.args.out)
    rows, unusable = _read_list(path)
    for fault in unusable:
        complain(fault)
    if not rows:
        raise BTCChatError(f"--list {path}: none of its rows can be used")
    request.check()
    make_folder(out)
    faults = len(unusable)
    for place, name, sources in rows:
        folder = out / name
        try:
            check(folder, resume=request.args.resume)
            with request.plan(sources) as plan:
                record, failed = _run(plan, folder, request, resume=request.args.resume)
        except BTCChatError as error:
            faults += 1
            complain(f"{place}: {error}")
            continue
        faults += failed > 0
        _report(request.args, str(folder), record)
    return SOME_FAILED if faults else 0


def _run(plan: Plan, out: Path, request: Request, *, resume: bool) -> tuple[dict[str, Any], int]:
    """Return the record in run.json, and how many tiles failed."""
    with SceneRun(plan, out, request.facts, resume=resume) as run:
        try:
            with Progress("tiles", len(plan.numbers), done=run.done) as progress:
                for row in run.rows(_engine(run, request)):
                    if row["status"] == FAILED:
                        progress.print(f"btcchat: error: tile {row['tile']}: {row['reason']}")
                    progress.update()
            return run.finish(_summarizer(request) if request.args.summarize else None), run.failed
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; the tiles in {out} are complete so far. Run the same command with --resume to continue"
            ) from None


def _engine(run: SceneRun, request: Request) -> Callable[[Batches], Rows]:
    args = request.args

    def local(batches: Batches) -> Rows:
        return run_local(batches, run.plan.reader(), run.work(request.load()))

    def on_ray(batches: Batches) -> Rows:
        spec = Spec(run.plan.job, run.work(None), request.load)
        return run_ray(batches, spec, RayOptions(args.ray_address, args.ray_workers, args.ray_gpus, args.device))

    return on_ray if args.engine == "ray" else local


def _summarizer(request: Request) -> Callable[[str], str]:
    def ask(text: str) -> str:
        from btcchat.processor import request as question

        pairs = request.load()
        assert isinstance(pairs, BTCChatPairs)
        return pairs.model.answer([question(text)], request.settings.generation)[0]

    return ask


def _dry_run(plan: Plan, request: Request) -> int:
    """Print the plan and an estimate of the time, from a few tiles. Nothing is written."""
    from btcchat.geo.answering import TileWork

    check_gsd(plan, request.facts)
    settings, threshold = plan.settings, threshold_of(plan.settings, request.facts)
    model = request.load()
    work = TileWork(model, plan.job.pairs, threshold, settings.min_change, settings.questions, "")
    start = time.monotonic()
    reader, shown = plan.reader(), []
    for number in plan.numbers:
        tile = reader.read(number)
        shown += [tile] if tile.frames is not None else []
        if len(shown) == MEASURED:
            break
    work(shown)
    seconds = (time.monotonic() - start) / max(1, len(shown)) * len(plan.numbers)
    lines = [
        *plan.text(),
        f"expected time: about {_duration(seconds)}, estimated from {len(shown)} tile{'s' * (len(shown) != 1)}",
    ]
    print("\n".join(lines))
    return 0


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def _report(args: argparse.Namespace, out: str, record: dict[str, Any]) -> None:
    if args.json:
        names = ("counts", "summary", "summary_by_model", "changes", "warnings", "seconds")
        print(json.dumps({"out": out, **{name: record[name] for name in names if name in record}}, ensure_ascii=False))
        return
    if args.list is not None:
        print(f"{out}:")
    for line in record["summary"]:
        print(line)
    if record.get("summary_by_model"):
        print(by_model(record["summary_by_model"]))
    counts = record["counts"]
    left_out = "".join(f", {counts[name]} {name}" for name in ("skipped", "failed") if counts[name])
    say(f"tiles in {out}: {counts['done']} done{left_out}; {Path(out) / 'report.html'} shows them")


def _read_list(path: str) -> tuple[list[tuple[str, str, list[str]]], list[str]]:
    """(place, name of the folder, scenes) of each usable row of a list, and one line for each unusable row."""
    pairs, faults = read_csv(Path(path))
    if not pairs and not faults:
        raise BTCChatError(f"--list {path} lists no pairs")
    found: list[tuple[str, str, list[str]]] = []
    names: dict[str, str] = {}  # folder -> place
    for pair in pairs:
        name = pair.id or str((pair.row or 0) - 1)
        if not re.fullmatch(r"[\w][\w .-]*", name):
            faults.append(f"{pair.place}: the id '{name}' cannot name a folder; use letters, digits, - and _")
        elif name in names:
            faults.append(f"{pair.place}: the id '{name}' is already used by {names[name]}")
        else:
            names[name] = pair.place
            cells = (pair.before, pair.after)
            sources = [cell if "://" in cell or cell.startswith("/") else str(pair.folder / cell) for cell in cells]
            found.append((pair.place, name, sources))
    return found, faults
