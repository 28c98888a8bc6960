"""Servers on a port of this machine, each in a thread, with the packaged model."""

import base64
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import uvicorn

from btcchat.assets import PACKAGE
from btcchat.serve.http.app import build_app
from btcchat.serve.http.server import Server, bind, options
from btcchat.serve.http.service import Service
from btcchat.serve.http.settings import Settings

EXAMPLE = PACKAGE / "assets" / "example"
BEFORE, AFTER = EXAMPLE / "before.png", EXAMPLE / "after.png"


@dataclass
class Live:
    url: str
    service: Service
    server: Server

    def get(self, path: str, **options) -> requests.Response:
        return requests.get(self.url + path, timeout=60, **options)

    def post(self, path: str, **options) -> requests.Response:
        return requests.post(self.url + path, timeout=60, **options)

    def ask(self, *content, **fields) -> requests.Response:
        """Request a chat completion about these parts of a message."""
        messages = [{"role": "user", "content": list(content)}]
        return self.post("/v1/chat/completions", json={"model": "tiny", "messages": messages, **fields})

    def upload(self, path: str, before=BEFORE, after=AFTER, **fields) -> requests.Response:
        """Send a pair as files, given as paths or bytes."""
        files = {"before": data_of(before), "after": data_of(after)}
        return self.post(path, files={name: ("x", data) for name, data in files.items()}, data=fields)


def data_of(source: Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def words(text: str = "What changed?") -> dict:
    return {"type": "text", "text": text}


def image(source: Path | bytes = BEFORE) -> dict:
    return {"type": "image_url", "image_url": {"url": data_url(source)}}


def data_url(source: Path | bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data_of(source)).decode()}"


PAIR = [image(BEFORE), image(AFTER)]


def start(model, *, wait: bool = True, load=None, **settings) -> Live:
    own = Settings(**settings)
    service = Service(own, lambda: setattr(server, "should_exit", True), load or (lambda _: model))
    sock = bind("127.0.0.1", 0)
    server = Server(uvicorn.Config(build_app(service), **options(own)), service.drain)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    server.thread = threading.Thread(target=server.run, args=[[sock]], daemon=True)
    server.thread.start()
    live = Live(url, service, server)
    if wait:
        wait_until(lambda: server.started and service._engine is not None)
    return live


def stop(live: Live) -> None:
    live.server.should_exit = True
    live.server.thread.join(30)
    assert not live.server.thread.is_alive()


def wait_until(condition: Callable[[], object], seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.02)


def wait_until_idle(live: Live) -> None:
    wait_until(lambda: live.service.engine.active + live.service.engine.waiting == 0)


@pytest.fixture(scope="session")
def live(tiny) -> Iterator[Live]:
    """A server with the default settings."""
    live = start(tiny)
    yield live
    stop(live)


@pytest.fixture
def started(tiny):
    """Start a server with other settings."""
    servers = []

    def begin(**settings) -> Live:
        servers.append(start(tiny, **settings))
        return servers[-1]

    yield begin
    for server in servers:
        stop(server)
