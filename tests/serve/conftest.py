"""The packaged model, loaded once for all tests of the engine and the server."""

import threading

import pytest

from btcchat import BTCChat
from btcchat.generation import Decoder


@pytest.fixture(scope="session")
def tiny() -> BTCChat:
    return BTCChat.from_pretrained(dtype="float32", device="cpu")


@pytest.fixture
def endless(monkeypatch):
    """No token ends an answer, so that each reaches its maximum length."""
    monkeypatch.setattr("btcchat.generation.prompt.end_ids", lambda *_: [])


class Gate:
    """Holds back the steps of every decoder while it is closed."""

    def __init__(self) -> None:
        self.steps = 0
        self._open = threading.Event()
        self._open.set()
        self.reached = threading.Event()

    def close(self) -> None:
        self.reached.clear()
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def wait(self) -> None:
        """Wait until a step is held back."""
        assert self.reached.wait(100)

    def step(self, decoder: Decoder, step):
        self.steps += 1
        if not self._open.is_set():
            self.reached.set()
            assert self._open.wait(200)
        return step(decoder)


@pytest.fixture
def gate(monkeypatch):
    gate, step = Gate(), Decoder.step
    monkeypatch.setattr(Decoder, "step", lambda decoder: gate.step(decoder, step))
    yield gate
    gate.open()
