"""What an engine is given to do: an answer to write, or a function of the model to call."""

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
    """A request waited in the queue for as long as a request may take."""


class Answer:
    """An answer that an engine writes. Iterate over it for its pieces; any thread may do that, or cancel it.

    deliver: called in the engine's thread with each piece, and with None at the end, in place of the iteration; it
    must return at once and not raise.
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
        self.prompt_tokens = prompt_tokens  # with those of the images
        self.finish_reason: str | None = None  # "stop", "length", "cancelled", "error"; "seconds": cut by the deadline
        self.error: Exception | None = None
        self.arrived = time.monotonic()
        self.deadline = self.arrived + seconds
        self.first_token: float | None = None  # as `arrived`
        self._pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._deliver = self._pieces.put if deliver is None else deliver

    @property
    def completion_tokens(self) -> int:
        return len(self.generation.ids)

    @property
    def longest(self) -> int:
        """Tokens of the prompt and of the longest answer to it."""
        return self.prompt_tokens + self.generation.limit

    def __iter__(self) -> Iterator[str]:
        """The pieces as they are written, all together the text. Raises the error that ended the answer."""
        while (piece := self._pieces.get()) is not None:
            yield piece
        if self.error is not None:
            raise self.error

    def text(self) -> str:
        """The whole answer; waits for it."""
        return "".join(self).strip()

    def cancel(self) -> None:
        """Write no more; it leaves with the engine's next step."""
        self.generation.cancel()

    # -- for the engine ------------------------------------------------------------------------------------------------

    def leaves(self) -> bool:
        """Whether it is cancelled or late."""
        return self.generation.finish_reason is not None or time.monotonic() > self.deadline

    def drop(self) -> None:
        """End it before it has begun."""
        if self.generation.finish_reason is not None:
            self.end("cancelled")
            return
        waited = time.monotonic() - self.arrived
        self.end(
            "error", OutOfTime(f"the request waited {waited:.0f} s in the queue without its turn; try again later")
        )

    def deliver(self) -> bool:
        """Hand over what the last step wrote; whether it was the last."""
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
            except Exception as error:  # noqa: BLE001 - it is raised where the result is waited for
                self.future.set_exception(error)

    def leaves(self) -> bool:
        return self.future.cancelled()

    def drop(self) -> None:
        self.future.cancel()

    def end(self, reason: str, error: Exception | None = None) -> None:
        if not self.future.done():
            self.future.set_exception(error or BTCChatError(f"the engine has stopped ({reason})"))
