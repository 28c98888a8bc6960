"""Many processes, on this machine or a cluster, through Ray Data: one model an actor, the same work a batch."""

import json
import logging
from dataclasses import dataclass, replace
from typing import Any

from btcchat.compat.extras import require
from btcchat.geo.answering import TileWork
from btcchat.geo.engines import Batches, LoadModel, Rows
from btcchat.geo.job import Job, TileReader


@dataclass(frozen=True)
class RayOptions:
    """address: of a cluster; None starts Ray on this machine. workers: actors. gpus: of each of them."""

    address: str | None = None
    workers: int = 2
    gpus: float = 0.0


@dataclass(frozen=True)
class Spec:
    """What an actor is made of. work: without its model, which every actor loads for itself."""

    job: Job
    work: TileWork
    load: LoadModel


class Worker:
    """The actor: opens the scenes and loads the model once, then does batch after batch."""

    def __init__(self, spec: Spec) -> None:
        self._reader = TileReader(spec.job)
        self._work = replace(spec.work, model=spec.load())

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        done = []
        for numbers in batch["tiles"]:
            rows = self._work([self._reader.read(number) for number in json.loads(numbers)])
            done.append(json.dumps(rows))
        return {"rows": done}


def run_ray(batches: Batches, spec: Spec, options: RayOptions) -> Rows:
    """A worker that dies is started again, and its batches are done again."""
    require("ray", "--engine ray", "'btcchat[ray]'")
    import ray

    started = not ray.is_initialized()
    if started:
        ray.init(address=options.address, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        # One block a batch, made here: a task that cut them would wait for a CPU that the workers have.
        items = [{"tiles": json.dumps(list(batch))} for batch in batches]
        data = ray.data.from_items(items, override_num_blocks=len(items))
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # now: ray.data sets it when it is first used
        done = data.map_batches(
            Worker,
            fn_constructor_args=(spec,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(options.workers, len(items))),
            num_gpus=options.gpus,
        )
        for row in done.iter_rows():
            yield json.loads(row["rows"])
    finally:
        if started:
            ray.shutdown()
