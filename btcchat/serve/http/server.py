"""Listening: one process with uvicorn, or several that share a port."""

import logging
import os
import socket
import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from btcchat.console.children import end_with_parent
from btcchat.console.ending import user_fault
from btcchat.console.messages import Formatter
from btcchat.errors import BTCChatError
from btcchat.serve.http.app import build_app
from btcchat.serve.http.metrics import FOLDER
from btcchat.serve.http.service import Service
from btcchat.serve.http.settings import Settings

SETTINGS = "BTCCHAT_SERVE"  # environment of the processes of replicas
CONNECTIONS = 1000  # of one process
FAILED_TO_START = 3  # uvicorn's own exit code, at which it starts no other process in its place


class Server(uvicorn.Server):
    """uvicorn's, which refuses further requests from the signal on that ends it."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, *arguments: Any) -> None:
        self._on_exit()
        super().handle_exit(*arguments)


def serve(settings: Settings, port: int, *, replicas: int = 1, listening: Callable[[str], object]) -> None:
    """Answer requests until a signal. listening: called with the address once it can be reached.

    Raises BTCChatError for an address that cannot be had, and what loading the model raises.
    """
    own = _bind(settings.host, port)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    port = own.getsockname()[1]
    address = f"http://{host}:{port}"
    if replicas > 1:
        own.close()
        listening(address)
        _serve_replicas(settings, port, replicas)
        return
    with own:
        service = Service(settings, lambda: setattr(server, "should_exit", True))
        server = Server(uvicorn.Config(build_app(service), **_options(settings)), service.drain)
        listening(address)
        server.run(sockets=[own])
    if service.failure is not None:
        raise service.failure


def _bind(host: str, port: int) -> socket.socket:
    try:
        [found, *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return socket.create_server((host, port), family=found[0], backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else str(error)  # asyncio and socket add to an error's own words
        raise BTCChatError(f"--host {host} --port {port} cannot be used: {reason}; choose another") from None


def _options(settings: Settings) -> dict[str, Any]:
    return {
        "lifespan": "on",
        "log_config": None,
        "server_header": False,
        "ws": "none",
        "limit_concurrency": CONNECTIONS,
        "timeout_graceful_shutdown": max(1, round(settings.drain_seconds)),
    }


def _serve_replicas(settings: Settings, port: int, replicas: int) -> None:
    os.environ[SETTINGS] = settings.to_json()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // replicas)))
    with TemporaryDirectory(prefix="btcchat-metrics-") as folder:
        os.environ[FOLDER] = folder
        uvicorn.run(
            f"{__name__}:replica",
            factory=True,
            host=settings.host,
            port=port,
            workers=replicas,
            timeout_worker_healthcheck=60,
            **_options(settings),
        )


def replica() -> ASGIApp:
    """The app of one of several processes."""
    end_with_parent()
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter("btcchat: %(message)s"))
    logging.getLogger("btcchat").addHandler(handler)

    def failed() -> None:
        error = service.failure
        assert error is not None
        sys.stderr.write(f"btcchat: error: {user_fault(error) or repr(error)}\n")
        sys.stderr.flush()
        os._exit(FAILED_TO_START)  # from the thread that loads; the others have nothing to finish

    service = Service(Settings.from_json(os.environ[SETTINGS]), failed)
    return build_app(service)
