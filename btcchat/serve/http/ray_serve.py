"""The same app on Ray Serve: processes that each have the model, on one machine or on many."""

import os
import signal
import threading
from collections.abc import Callable

from starlette.types import ASGIApp

from btcchat.errors import BTCChatError
from btcchat.plugins.enabling import FOLDERS, MODULES
from btcchat.serve.gpus import ray_share
from btcchat.serve.http.app import build_app
from btcchat.serve.http.service import Service
from btcchat.serve.http.settings import Settings

NAME = "btcchat"


def serve_on_ray(settings: Settings, port: int, *, replicas: int, listening: Callable[[str], object]) -> None:
    """Serve requests until a signal arrives. Joins the cluster that RAY_ADDRESS names, or starts one on this machine.

    Each replica has a model and an engine of its own, and its share of the GPUs (`ray_share`). Ray's proxy on every
    machine of the cluster listens at ``port``. Raises BTCChatError where the replicas cannot be started.
    """
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions, ProxyLocation

    def build() -> ASGIApp:  # in the replica's process
        service = Service(settings)
        service.load()
        if service.failure is not None:
            raise service.failure
        return build_app(service)

    terminate = signal.getsignal(signal.SIGTERM)
    plugins = {name: os.environ[name] for name in (MODULES, FOLDERS) if name in os.environ}
    ray.init(runtime_env={"env_vars": plugins}, log_to_driver=False, include_dashboard=False)
    try:
        deployment = serve.deployment(
            name=NAME,
            num_replicas=replicas,
            max_ongoing_requests=settings.max_queue + settings.max_batch + 16,  # the app has its own limit
            graceful_shutdown_timeout_s=settings.drain_seconds,
            ray_actor_options={"num_gpus": ray_share(replicas, settings.model.get("device", "auto"))},
        )
        everywhere = ProxyLocation.EveryNode
        serve.start(proxy_location=everywhere, http_options=HTTPOptions(host=settings.host, port=port))
        application = deployment(serve.ingress(build)(type("Replica", (), {}))).bind()
        try:
            serve.run(application, name=NAME, route_prefix="/")
        except RuntimeError as error:
            raise BTCChatError(f"the replicas could not be started: {str(error).splitlines()[-1]}") from error
        signal.signal(signal.SIGTERM, terminate)  # Ray installed a handler that prints stacks and aborts
        listening(f"http://{settings.host}:{port}")
        threading.Event().wait()
    finally:
        serve.shutdown()
        ray.shutdown()
