"""Many processes, on this machine or a cluster, with Ray Data: each actor has a model and does the same work."""

import json
import logging
import math
import os
import socket
from dataclasses import dataclass, replace
from typing import Any

from btcchat.compat.extras import require
from btcchat.errors import BTCChatError
from btcchat.geo.answering import TileWork
from btcchat.geo.engines import Batches, LoadModel, Rows
from btcchat.geo.job import Job, TileReader
from btcchat.serve.gpus import VISIBLE, ray_share

CONNECT = 20  # seconds to reach a cluster; Ray itself tries for minutes
START = 1800  # seconds until all workers have loaded the model; Ray itself waits without limit


@dataclass(frozen=True)
class RayOptions:
    """address: of a cluster; None starts Ray on this machine. workers: number of actors. gpus: per actor; None for an
    equal share of those that Ray finds. device: of the model.
    """

    address: str | None = None
    workers: int = 2
    gpus: float | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Spec:
    """What an actor needs. work: without its model, because every actor loads its own."""

    job: Job
    work: TileWork
    load: LoadModel


class Worker:
    """An actor: it opens the scenes and loads the model once, then does one batch after another."""

    def __init__(self, spec: Spec, gpus: float) -> None:
        if not gpus:  # Ray leaves all GPUs visible, and every worker would use the first one
            os.environ[VISIBLE] = ""
        self._reader = TileReader(spec.job)
        self._work = replace(spec.work, model=spec.load())

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        done = []
        for numbers in batch["tiles"]:
            rows = self._work([self._reader.read(number) for number in json.loads(numbers)])
            done.append(json.dumps(rows))
        return {"rows": done}


def run_ray(batches: Batches, spec: Spec, options: RayOptions) -> Rows:
    """Do the batches with Ray. If a worker dies, it is started again and its batches are repeated.

    Raises BTCChatError if the cluster cannot be reached, and if it has too few CPUs or GPUs for the workers.
    """
    require("ray", "--engine ray", "'btcchat[ray]'")
    import ray

    started = not ray.is_initialized()
    if started:
        _start(options.address)
    try:
        gpus = ray_share(options.workers, options.device) if options.gpus is None else options.gpus
        _check_resources(options, gpus)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars, context.wait_for_min_actors_s = False, START
        # One block per batch, made here: a task that cut them would wait for a CPU that the workers have.
        items = [{"tiles": json.dumps(list(batch))} for batch in batches]
        data = ray.data.from_items(items, override_num_blocks=len(items))
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # now, because ray.data sets it on first use
        done = data.map_batches(
            Worker,
            fn_constructor_args=(spec, gpus),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(options.workers, len(items))),
            num_gpus=gpus,
        )
        for row in done.iter_rows():
            yield json.loads(row["rows"])
    except ray.exceptions.GetTimeoutError as error:
        raise BTCChatError(
            f"Ray could not start {options.workers} workers in {START // 60} minutes; give fewer --ray-workers, or a "
            "cluster with more free CPUs or GPUs"
        ) from error
    finally:
        if started:
            ray.shutdown()


def _start(address: str | None) -> None:
    import ray

    try:
        if address not in (None, "auto", "local"):
            host, _, port = str(address).rpartition("://")[2].rpartition(":")
            socket.create_connection((host, int(port)), timeout=CONNECT).close()
        ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    except (OSError, ValueError) as error:  # Ray's ConnectionError is an OSError
        reason = " ".join(str(error).split())[:120]
        raise BTCChatError(
            f"--ray-address {address}: no Ray cluster answers ({reason}); give HOST:PORT of its head, such as "
            "10.0.0.1:6379, or auto on one of its machines"
        ) from error


def _check_resources(options: RayOptions, gpus: float) -> None:
    """Whether this machine is enough for the workers. Nothing is known about a cluster, which may grow."""
    import ray

    if gpus > 1 and gpus % 1:
        raise BTCChatError(f"--ray-gpus is {gpus:g}; Ray gives a worker whole GPUs, or a part of one")
    if options.address is not None:
        return
    each = {"CPU": 1.0, "GPU": gpus}  # Ray Data reserves a CPU for every worker
    for kind, amount in each.items():
        # A part of a GPU is always of one GPU: two workers with 0.6 each need two.
        needed = math.ceil(options.workers / int(1 / amount)) if 0 < amount < 1 else options.workers * amount
        if needed > (found := ray.cluster_resources().get(kind, 0)):
            raise BTCChatError(
                f"{options.workers} Ray workers with {amount:g} {kind} each need {needed:g}, but Ray found {found:g} "
                "here; change --ray-workers or --ray-gpus"
            )
