"""The jobs of an engine: an answer to write, or a function to call."""

import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from btcchat.errors import BTCChatError
from btcchat.generation import Generation
from btcchat.processor import Sample


class OutOfTime(BTCChatError):
    """A request reached its time limit while it was waiting in the queue."""


class Answer:
    """An answer that an engine writes. Iterate over it to get its text in pieces; any thread may do so, or cancel it.

    deliver: called in the engine's thread with each piece, and with None at the end, in place of the iteration; it
    must return at once and must not raise. seconds: from now to the answer's deadline.
    """

    def __init__(
        self,
        sample: Sample,
        generation: Generation,
        prompt_tokens: int,
        seconds: float,
        deliver: Callable[[str | None], object] | None = None,
    ):
        self.sample: Sample | None = sample  # until the model has read it
        self.generation = generation
        self.prompt_tokens = prompt_tokens  # including those of the images
        self.finish_reason: str | None = None  # "stop", "length", "cancelled", "error"; "seconds": cut by the deadline
        self.error: Exception | None = None
        self.arrived = time.monotonic()
        self.deadline = self.arrived + seconds
        self.first_token: float | None = None  # by time.monotonic, like `arrived`
        self._pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._deliver = self._pieces.put if deliver is None else deliver

    @property
    def completion_tokens(self) -> int:
        return len(self.generation.ids)

    @property
    def longest(self) -> int:
        """Tokens of the prompt and of the longest possible answer."""
        return self.prompt_tokens + self.generation.limit

    def __iter__(self) -> Iterator[str]:
        """The pieces of the text as they are written. Raises the error that ended the answer, if any."""
        while (piece := self._pieces.get()) is not None:
            yield piece
        if self.error is not None:
            raise self.error

    def text(self) -> str:
        """Wait for the whole answer and return it."""
        return "".join(self).strip()

    def cancel(self) -> None:
        """Stop writing; the answer leaves at the engine's next step."""
        self.generation.cancel()

    # -- for the engine ------------------------------------------------------------------------------------------------

    def leaves(self) -> bool:
        """Whether it was cancelled or has passed its deadline."""
        return self.generation.finish_reason is not None or time.monotonic() > self.deadline

    def drop(self) -> None:
        """End it before it has started."""
        if self.generation.finish_reason is not None:
            self.end("cancelled")
            return
        waited = time.monotonic() - self.arrived
        self.end(
            "error", OutOfTime(f"the request waited {waited:.0f} s in the queue and was never started; try again later")
        )

    def deliver(self) -> bool:
        """Deliver what the last step wrote; True if the answer has ended."""
        if self.first_token is None and self.generation.ids:
            self.first_token = time.monotonic()
        if piece := self.generation.read():
            self._deliver(piece)
        reason = self.generation.finish_reason
        if reason is None:
            return False
        late = reason == "cancelled" and time.monotonic() > self.deadline
        self.end("seconds" if late else reason, self.generation.error)
        return True

    def end(self, reason: str, error: Exception | None = None) -> None:
        if self.finish_reason is None:
            self.finish_reason, self.error, self.sample = reason, error, None
            self._deliver(None)


@dataclass
class Call:
    """A function that runs in the engine's thread, between two steps."""

    function: Callable[[], Any]
    future: "Future[Any]" = field(default_factory=Future)

    def run(self) -> None:
        if self.future.set_running_or_notify_cancel():
            try:
                self.future.set_result(self.function())
            except Exception as error:  # noqa: BLE001 - re-raised where the result is awaited
                self.future.set_exception(error)

    def leaves(self) -> bool:
        return self.future.cancelled()

    def drop(self) -> None:
        self.future.cancel()

    def end(self, reason: str, error: Exception | None = None) -> None:
        if not self.future.done():
            self.future.set_exception(error or BTCChatError(f"the engine has stopped ({reason})"))
