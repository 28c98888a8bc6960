"""One model that writes many answers at once: a bounded queue, and answers that join and leave between steps."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from btcchat.console.ending import user_fault
from btcchat.errors import BTCChatError
from btcchat.generation import GREEDY, Decoder, GenerationOptions, read_prompts
from btcchat.processor import Sample
from btcchat.serve.fair_queue import FairQueue
from btcchat.serve.job import Answer, Call

if TYPE_CHECKING:
    from btcchat.model import BTCChatModel

log = logging.getLogger(__name__)
T = TypeVar("T")


class QueueFull(BTCChatError):
    """As many requests wait as may."""


class Closed(BTCChatError):
    """The engine takes no more requests."""


class EngineFault(BTCChatError):
    """The model could not compute an answer, for a reason that is not the request's."""


@dataclass(frozen=True)
class EngineLimits:
    """queue: requests that wait. rows: answers that are written at the same time. tokens: of the key/value cache, rows
    times the longest of them with its prompt; a single answer may be longer. prefill: prompt tokens that are read in
    one step, which bounds how long a step delays the others; a single prompt may be longer. seconds: from a request's
    arrival to its last token.
    """

    queue: int = 64
    rows: int = 16
    tokens: int = 8192
    prefill: int = 1024
    seconds: float = 300.0


class Engine:
    """``with Engine(model) as engine: engine.submit(sample).text()``. Any thread may call its methods.

    A thread of its own owns the model. In each step it reads the prompts of some waiting requests, then writes a token
    of every answer. If the model raises an exception, the answers that it was writing end with that error, and the
    engine continues with the next. on_step: called there with the number of answers of each step.
    """

    def __init__(
        self,
        model: "BTCChatModel",
        limits: EngineLimits = EngineLimits(),  # noqa: B008 - frozen
        on_step: Callable[[int], object] = lambda rows: None,
    ):
        self.model, self.limits, self._on_step = model, limits, on_step
        self._queue: FairQueue[Answer | Call] = FairQueue()
        self._rows: list[Answer] = []
        self._decoder = Decoder(model)
        self._changed = threading.Condition()  # guards the queue and the two flags
        self._closing = self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    # -- for other threads ---------------------------------------------------------------------------------------------

    def submit(
        self,
        sample: Sample,
        options: GenerationOptions = GREEDY,
        *,
        client: str = "",
        deliver: Callable[[str | None], object] | None = None,
    ) -> Answer:
        """Begin an answer to what the model's processor made of a request; deliver: see `Answer`.

        Raises BTCChatError for a prompt that leaves no room for an answer and for beam search, QueueFull, Closed.
        """
        if options.num_beams > 1:
            raise BTCChatError(f"num_beams is {options.num_beams}; an engine has no beam search, use BTCChat.answer")
        tokens = self.prompt_tokens(sample)
        answer = Answer(sample, self._decoder.prepare(tokens, options), tokens, self.limits.seconds, deliver)
        self._put(client, answer)
        return answer

    def call(self, function: Callable[[], T], *, client: str = "") -> "Future[T]":
        """Run a function of the model in the engine's thread, in its turn. Raises QueueFull, Closed."""
        call = Call(function)
        self._put(client, call)
        return call.future

    def prompt_tokens(self, sample: Sample) -> int:
        """Tokens that the language model reads of a sample, those of its images among them."""
        images = self.model.layout.lengths(sample["modality"], len(sample["frames"]))
        return len(sample["input_ids"]) - len(images) + sum(images)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def active(self) -> int:
        """Answers that are being written."""
        return len(self._rows)

    @property
    def is_open(self) -> bool:
        """Whether it takes requests."""
        return not self._closing and self._thread.is_alive()

    def close(self, seconds: float = 0.0) -> None:
        """Take no more requests, finish those there are, and cancel what is not finished after so many seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        self._stopping = True
        self._thread.join()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, client: str, job: Answer | Call) -> None:
        with self._changed:
            if not self.is_open:
                raise Closed("the engine is shutting down and takes no more requests")
            if len(self._queue) >= self.limits.queue:
                self._drop_leaving()
            if len(self._queue) >= self.limits.queue:
                raise QueueFull(f"{self.limits.queue} requests are waiting already; try again later")
            self._queue.put(client, job)
            self._changed.notify()

    # -- its own thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._rows or len(self._queue) or self._closing)
                self._drop_leaving()
                joining = self._next()
                if self._closing and not joining and not self._rows:
                    return
            try:
                self._step(joining)
            except Exception as error:  # noqa: BLE001 - the engine must survive it
                self._fail([*self._rows, *joining], error)
                self._rows, self._decoder = [], Decoder(self.model)

    def _drop_leaving(self) -> None:
        for job in self._queue.take_out(lambda job: self._stopping or job.leaves()):
            if self._stopping and isinstance(job, Answer):
                job.cancel()
            job.drop()

    def _next(self) -> list[Answer | Call]:
        """What joins in this step: as much as the limits allow, in the queue's order; at least one where none is."""
        chosen: list[Answer | Call] = []
        read, lengths = 0, [row.longest for row in self._rows]
        while len(self._queue):
            job = self._queue.peek()
            size = job.prompt_tokens if isinstance(job, Answer) else self.limits.prefill  # a call takes a whole step
            if chosen and read + size > self.limits.prefill:
                break
            if isinstance(job, Answer):
                together = [*lengths, job.longest]
                if len(together) > self.limits.rows or (lengths and len(together) * max(together) > self.limits.tokens):
                    break
                lengths = together
            read += size
            chosen.append(self._queue.pop())
        return chosen

    def _step(self, joining: Sequence[Answer | Call]) -> None:
        for job in joining:
            if isinstance(job, Call):
                job.run()
        self._join([job for job in joining if isinstance(job, Answer)])
        for row in self._rows:
            if self._stopping or row.leaves():
                row.cancel()
        written = self._decoder.step()
        self._rows = [row for row in self._rows if not row.deliver()]
        self._on_step(len(written))

    def _join(self, answers: Sequence[Answer]) -> None:
        """Read the images of all in one pass; if that fails, one by one, so that one cannot spoil the others."""
        samples = [answer.sample for answer in answers if answer.sample is not None]
        if not samples:
            return
        try:
            prompts = read_prompts(self.model, self.model.processor.collate(samples))
        except Exception as error:  # noqa: BLE001 - its requests end with it
            if len(answers) == 1:
                self._fail(answers, error)
            else:
                for answer in answers:
                    self._join([answer])
            return
        self._decoder.waiting += [(answer.generation, prompt) for answer, prompt in zip(answers, prompts, strict=True)]
        for answer in answers:
            answer.sample = None
        self._rows += answers

    def _fail(self, jobs: Sequence[Answer | Call], error: Exception) -> None:
        text = user_fault(error)
        if text is None:
            log.error("the model failed", exc_info=error)
            text = f"internal error, {type(error).__name__}; the log has its traceback"
        for job in jobs:
            job.end("error", error if isinstance(error, BTCChatError) else EngineFault(text))
