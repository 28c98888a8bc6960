"""One run in its folder: the tiles still to do, their rows, and the files built from them."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

from btcchat import __version__
from btcchat.checkpoint.hub import DEMONSTRATION, PACKAGED
from btcchat.errors import BTCChatError
from btcchat.geo.answering import TileWork
from btcchat.geo.engines import Batches, Rows
from btcchat.geo.facts import ModelFacts
from btcchat.geo.folder import check, lock, prepare, write_run
from btcchat.geo.log import TileLog
from btcchat.geo.outputs.write import write_outputs
from btcchat.geo.pair_model import PairModel
from btcchat.geo.plan import Plan
from btcchat.geo.rows import DONE, FAILED, SKIPPED, TileRow
from btcchat.geo.settings import Settings, digest

Engine: TypeAlias = Callable[[Batches], Rows]
FACTOR = 2.0  # the grid's and the model's ground sampling distance may differ by this without a warning


class SceneRun:
    """``with SceneRun(plan, out, facts) as run: for row in run.rows(engine): ...; run.finish()``.

    Raises BTCChatError if another process writes into ``out``, if it holds anything but this run, and if neither the
    settings nor the model state the threshold of a change.
    """

    def __init__(self, plan: Plan, out: str | Path, facts: ModelFacts, *, resume: bool = False) -> None:
        self.plan, self.out, self.facts = plan, Path(out), facts
        self.threshold = threshold_of(plan.settings, facts)
        if facts.name == PACKAGED:
            plan.warnings.append(DEMONSTRATION)  # for the record; the command says it
        check_gsd(plan, facts)
        self.record = self._record()
        self.settings: str = self.record["settings_hash"]
        self._start, self._stack = time.monotonic(), ExitStack()
        check(self.out, resume=resume)
        self._stack.enter_context(lock(self.out))
        try:
            prepare(self.out, self.record, resume=resume)
            write_run(self.out, {**self.record, "status": "running"})
            self.log = self._stack.enter_context(TileLog(self.out, self.settings))
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> "SceneRun":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def done(self) -> int:
        """The number of tiles that are already in the log."""
        return len(self.log.statuses)

    @property
    def failed(self) -> int:
        return list(self.log.statuses.values()).count(FAILED)

    def work(self, model: PairModel | None) -> TileWork:
        """The model's work on the tiles of this run. model: None if workers load their own."""
        settings = self.plan.settings
        pairs = self.plan.job.pairs
        return TileWork(model, pairs, self.threshold, settings.min_change, settings.questions, self.settings)

    def batches(self) -> Batches:
        """The batches still to do. They are cut the same way in every run, so the model sees the same batches."""
        size, numbers = self.plan.settings.batch_size, self.plan.numbers
        batches = [numbers[start : start + size] for start in range(0, len(numbers), size)]
        return [batch for batch in batches if any(number not in self.log for number in batch)]

    def rows(self, engine: Engine) -> Iterator[TileRow]:
        """Do the remaining batches; a row is yielded once it is on disk."""
        batches = self.batches()
        if batches:
            for rows in engine(batches):
                yield from self.log.append(rows)

    def finish(self, summarizer: Callable[[str], str] | None = None) -> dict[str, Any]:
        """Write the files that are built from the rows, and return the record in run.json."""
        written = write_outputs(self, summarizer)
        statuses = list(self.log.statuses.values())
        counts = {status: statuses.count(status) for status in (DONE, SKIPPED, FAILED)}
        ending = {"status": "finished", "seconds": round(time.monotonic() - self._start, 1), "counts": counts}
        self.record |= {**written, "warnings": self.plan.warnings, **ending}
        write_run(self.out, self.record)
        return self.record

    def _record(self) -> dict[str, Any]:
        """Everything needed to repeat the run, and a hash of what determines its results."""
        plan = self.plan
        decides = {
            **plan.record(),
            "settings": {**plan.settings.record(), "threshold": self.threshold},
            "model": self.facts.record(),
            "files": [_state(path) for files in plan.job.files for path in files.all_paths],
        }
        return {
            **decides,
            "threshold_from": "--threshold" if plan.settings.threshold is not None else self.facts.chosen_on,
            "settings_hash": digest(decides),
            "map_type": plan.settings.map_dtype,
            "formats": list(plan.settings.formats),
            "btcchat": __version__,
        }


def threshold_of(settings: Settings, facts: ModelFacts) -> float:
    threshold = facts.threshold if settings.threshold is None else settings.threshold
    if threshold is None:
        raise BTCChatError(
            f"model {facts.name} has no change_threshold in its config.json; give --threshold T (0 to 1), or choose "
            "one on pairs with masks: btcchat eval MODEL SET:val --masks --out RUN, then btcchat export "
            "--change-threshold RUN MODEL OUT"
        )
    return threshold


def check_gsd(plan: Plan, facts: ModelFacts) -> None:
    gsd = plan.tiles.grid.gsd
    if facts.gsd is not None and not 1 / FACTOR <= gsd / facts.gsd <= FACTOR:
        coarse = gsd > facts.gsd and plan.settings.gsd is None  # a finer grid would not show more than the scenes do
        way_out = "use a model trained on such images" if coarse else f"try --gsd {facts.gsd:g}"
        plan.warn(
            f"the grid has {gsd:.4g} m per pixel, but the model was trained on {facts.gsd:.4g} m, so its answers may "
            f"be wrong; {way_out}"
        )


def _state(path: str) -> list[str | int]:
    """The path, size and modification time of a file."""
    try:
        state = os.stat(path)
    except OSError:  # a remote one
        return [path]
    return [os.path.abspath(path), state.st_size, state.st_mtime_ns]
