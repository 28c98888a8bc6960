"""Run the server: one process with uvicorn, or several that share a port."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors.multiprocess import Multiprocess

from btcchat.console.children import end_with_parent
from btcchat.console.ending import user_fault
from btcchat.console.messages import Formatter
from btcchat.errors import BTCChatError
from btcchat.serve.gpus import take_turn, visible_gpus
from btcchat.serve.http.app import build_app
from btcchat.serve.http.metrics import FOLDER
from btcchat.serve.http.service import Service
from btcchat.serve.http.settings import Settings

SETTINGS = "BTCCHAT_SERVE"  # environment variable with the settings of replicas
GPUS = "BTCCHAT_SERVE_GPUS"  # environment variable with the GPUs that replicas take in turn
OTHER_ADDRESS = "give another --port, or an address of this machine, e.g. --host 127.0.0.1"
CONNECTIONS = 1000  # at most, of one process
HEALTH_SECONDS = 60  # a replica that does not respond for so long is replaced
HANGUP: Any = getattr(signal, "SIGHUP", None)  # the terminal was closed; Windows has no such signal
FAILED_TO_START = 3  # the exit code at which uvicorn does not replace a process


class Server(uvicorn.Server):
    """uvicorn's server, which calls ``on_exit`` as soon as a signal ends it."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, *arguments: Any) -> None:
        self._on_exit()
        super().handle_exit(*arguments)


def serve(settings: Settings, port: int, *, replicas: int = 1, listening: Callable[[str], object]) -> None:
    """Serve requests until a signal arrives. listening: called with the server's URL once it accepts connections.

    Raises BTCChatError for an address that cannot be used, and whatever loading the model raises.
    """
    with bind(settings.host, port) as own:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        listening(f"http://{host}:{own.getsockname()[1]}")
        if replicas > 1:
            _serve_replicas(settings, own, replicas)
            return
        service = Service(settings, lambda: setattr(server, "should_exit", True))
        server = Server(uvicorn.Config(build_app(service), **options(settings)), service.drain)
        server.run(sockets=[own])
    if service.failure is not None:
        raise service.failure


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens at the address. Raises BTCChatError if it cannot be used."""
    try:
        [found, *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return socket.create_server((host, port), family=found[0], backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        # asyncio and socket add to the system's words
        reason = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)
        raise BTCChatError(f"--host {host} --port {port} cannot be used: {reason}; {OTHER_ADDRESS}") from None


def options(settings: Settings) -> dict[str, Any]:
    """Options of uvicorn."""
    return {
        "lifespan": "on",
        "log_config": None,
        "server_header": False,
        "ws": "none",
        "limit_concurrency": CONNECTIONS,
        "timeout_graceful_shutdown": max(1, round(settings.drain_seconds)),
    }


class Replicas(Multiprocess):
    """uvicorn's supervisor, which remembers the signal that ended it."""

    ended_by: int | None = None

    def handle_int(self) -> None:
        self.ended_by = signal.SIGINT
        super().handle_int()

    def handle_term(self) -> None:
        self.ended_by = signal.SIGTERM
        super().handle_term()

    def handle_hup(self) -> None:
        """uvicorn would start all processes again, and outlive the terminal."""
        self.ended_by = HANGUP
        self.should_exit.set()


def _serve_replicas(settings: Settings, own: socket.socket, replicas: int) -> None:
    os.environ[SETTINGS] = settings.to_json()
    os.environ[GPUS] = ",".join(visible_gpus())
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // replicas)))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, HANGUP) if number}
    app = f"{__name__}:replica"
    config = uvicorn.Config(
        app, factory=True, workers=replicas, timeout_worker_healthcheck=HEALTH_SECONDS, **options(settings)
    )
    with TemporaryDirectory(prefix="btcchat-metrics-") as folder:
        os.environ[FOLDER] = folder
        processes = Replicas(config, [own])
        if handlers.get(HANGUP) == signal.SIG_IGN:
            signal.signal(HANGUP, signal.SIG_IGN)  # nohup; uvicorn has replaced it
        processes.run()
    if processes.ended_by is None:
        raise BTCChatError("a process of --replicas could not be started; see its error message above")
    signal.signal(processes.ended_by, handlers[processes.ended_by])
    signal.raise_signal(processes.ended_by)


def replica() -> ASGIApp:
    """The app of one of several processes; uvicorn calls this in each."""
    end_with_parent()
    if HANGUP:
        signal.signal(HANGUP, signal.SIG_IGN)  # the parent lets the answers finish, as after SIGTERM
    take_turn(os.environ[GPUS].split(","), Path(os.environ[FOLDER]))
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter("btcchat: %(message)s"))
    logging.getLogger("btcchat").addHandler(handler)

    def failed() -> None:
        error = service.failure
        assert error is not None
        sys.stderr.write(f"btcchat: error: {user_fault(error) or repr(error)}\n")
        sys.stderr.flush()
        # Called in the thread that loads, or that computes; the others have nothing to finish. uvicorn starts a process
        # again that had started.
        os._exit(1 if service.has_loaded else FAILED_TO_START)

    service = Service(Settings.from_json(os.environ[SETTINGS]), failed)
    return build_app(service)
