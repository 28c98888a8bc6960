"""Continuous batching: a model that writes many answers at once, which join and leave between steps."""

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
    """The queue has reached its limit."""


class Closed(BTCChatError):
    """The engine no longer accepts requests."""


class EngineFault(BTCChatError):
    """The model failed to compute an answer, through no fault of the request."""


@dataclass(frozen=True)
class EngineLimits:
    """Limits of an engine.

    queue: requests that may wait. rows: answers written at the same time. tokens: size of the key/value cache, which is
    the number of answers times the longest of them with its prompt; a single answer may be longer. prefill: prompt
    tokens read in one step, which bounds how long a step delays the other answers; a single prompt may be longer.
    seconds: from a request's arrival to its last token.
    """

    queue: int = 64
    rows: int = 16
    tokens: int = 8192
    prefill: int = 1024
    seconds: float = 300.0


class Engine:
    """``with Engine(model) as engine: engine.submit(sample).text()``. Any thread may call its methods.

    The model runs in the engine's own thread. Each step reads the prompts of some waiting requests, then generates one
    token of every answer. If the model raises an exception, the answers in progress end with that error, and the engine
    continues with the next requests. on_step: called in that thread after each step, with its number of answers.
    on_broken: called there with an error after which CUDA computes nothing more in this process.
    """

    def __init__(
        self,
        model: "BTCChatModel",
        limits: EngineLimits = EngineLimits(),  # noqa: B008 - frozen
        on_step: Callable[[int], object] = lambda rows: None,
        on_broken: Callable[[Exception], object] = lambda error: None,
    ):
        self.model, self.limits, self._on_step, self._on_broken = model, limits, on_step, on_broken
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
        """Queue a request, as the model's processor prepared it; the answer fills as it is written.

        client: a name, by which clients take turns. deliver: see `Answer`. Raises QueueFull, Closed, and BTCChatError
        for beam search or a prompt that leaves no room for an answer.
        """
        if options.num_beams > 1:
            raise BTCChatError(
                f"num_beams is {options.num_beams}, but an engine has no beam search; use BTCChat.answer"
            )
        tokens = self.prompt_tokens(sample)
        answer = Answer(sample, self._decoder.prepare(tokens, options), tokens, self.limits.seconds, deliver)
        self._put(client, answer)
        return answer

    def call(self, function: Callable[[], T], *, client: str = "") -> "Future[T]":
        """Queue a function that uses the model, to run in the engine's thread. Raises QueueFull, Closed."""
        call = Call(function)
        self._put(client, call)
        return call.future

    def prompt_tokens(self, sample: Sample) -> int:
        """Number of prompt tokens of a sample, including those of its images."""
        images = self.model.layout.lengths(sample["modality"], len(sample["frames"]))
        return len(sample["input_ids"]) - len(images) + sum(images)

    @property
    def waiting(self) -> int:
        """Number of requests in the queue."""
        return len(self._queue)

    @property
    def active(self) -> int:
        """Number of answers being written."""
        return len(self._rows)

    @property
    def is_open(self) -> bool:
        """Whether the engine accepts requests."""
        return not self._closing and self._thread.is_alive()

    def close(self, seconds: float = 0.0) -> None:
        """Accept no more requests, finish those present, and cancel what is not finished after ``seconds``."""
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
                raise QueueFull(f"{self.limits.queue} requests are already waiting; try again later")
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
        """Take from the queue what joins in this step: in order, as much as the limits allow, at least one if idle."""
        chosen: list[Answer | Call] = []
        read, lengths = 0, [row.longest for row in self._rows]
        while len(self._queue):
            job = self._queue.peek()
            size = job.prompt_tokens if isinstance(job, Answer) else self.limits.prefill  # a call counts as a full step
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
        """Read all prompts in one pass; if that fails, one by one, so that a bad one cannot spoil the others."""
        samples = [answer.sample for answer in answers if answer.sample is not None]
        if not samples:
            return
        prompts = None
        try:
            prompts = read_prompts(self.model, self.model.processor.collate(samples))
        except Exception as error:  # noqa: BLE001 - the requests end with this error
            if len(answers) == 1:
                self._fail(answers, error)
                return
        if prompts is None:  # not in `except`, where the traceback keeps the memory of the failed pass
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
        if (
            isinstance(error, RuntimeError)
            and str(error).startswith("CUDA error")
            and "out of memory" not in str(error)
        ):
            self._on_broken(error)
