"""The model that the routes use: load it, read what clients send, and run it."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from PIL import Image

from btcchat import BTCChat
from btcchat.errors import BTCChatError
from btcchat.media.reading import Reading
from btcchat.processor import Sample, request
from btcchat.serve.engine import Engine, EngineLimits
from btcchat.serve.http.errors import APIError
from btcchat.serve.http.fetch import fetch
from btcchat.serve.http.images import RequestImages, read_frames
from btcchat.serve.http.metrics import Metrics
from btcchat.serve.http.question import Question
from btcchat.serve.http.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

READERS = min(4, os.cpu_count() or 1)  # images decoded at the same time, each of which may take a few hundred MiB
FETCH_SECONDS = 30.0
TOKEN_CHARACTERS = 64  # on average at most; spaces aside, few vocabularies have a token as long


def load_model(settings: Settings) -> BTCChat:
    return BTCChat.from_pretrained(**settings.model, reading=settings.reading)


class Service:
    """The model of one process. failed: called after ``failure`` is set: it cannot be loaded, or not run any more."""

    def __init__(
        self,
        settings: Settings,
        failed: Callable[[], object] = lambda: None,
        load: Callable[[Settings], BTCChat] = load_model,
    ) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.failure: BaseException | None = None
        self._failed, self._load_model = failed, load
        self._engine: Engine | None = None
        self._model: BTCChat | None = None
        self._readers = ThreadPoolExecutor(READERS, "reader")
        self.draining = False

    def start(self) -> None:
        """Load the model in a new thread, unless it is loaded; until it is, requests are answered with 503."""
        if self._engine is None:
            threading.Thread(target=self.load, name="loading", daemon=True).start()

    def drain(self) -> None:
        """Refuse further requests; those in progress are finished."""
        self.draining = True

    def stop(self) -> None:
        """Stop the engine and the readers; uvicorn has already waited for open requests."""
        self.draining = True
        if self._engine is not None:
            self._engine.close()
        self._readers.shutdown(wait=False, cancel_futures=True)

    def load(self) -> None:
        """Load the model now; if that fails, ``failure`` is the exception."""
        settings = self.settings
        limits = EngineLimits(
            settings.max_queue, settings.max_batch, settings.max_batch_tokens, seconds=settings.max_seconds
        )
        try:
            self._model = self._load_model(settings)
            engine = Engine(self._model, limits, lambda rows: self.metrics.stepped(rows, engine), self._broken)
            self._engine = engine
        except BaseException as error:  # noqa: BLE001 - reported where the server was started
            self.failure = error
            self._failed()

    def _broken(self, error: Exception) -> None:
        """End the process, so that whoever runs the server starts it again: CUDA will fail in it from now on."""
        self.draining = True
        reason = str(error).splitlines()[0]
        self.failure = BTCChatError(f"the GPU cannot be used any more ({reason}); start the server again")
        self._failed()

    @property
    def has_loaded(self) -> bool:
        """Whether there is a model, even if it cannot be used any more."""
        return self._engine is not None

    @property
    def is_ready(self) -> bool:
        """Whether requests are accepted."""
        return self._engine is not None and self._engine.is_open and not self.draining

    @property
    def engine(self) -> Engine:
        """Raises APIError 503 while the model is loading or the server is shutting down."""
        if self._engine is None:
            raise APIError(503, "the model is being loaded; try again later", code="loading")
        if not self.is_ready:
            raise APIError(503, "the server is shutting down; try again later", code="shutting_down")
        return self._engine

    @property
    def model(self) -> BTCChat:
        """Raises APIError 503, as `engine` does."""
        _ = self.engine
        assert self._model is not None
        return self._model

    async def read(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function that reads images in one of a few threads."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, function, *arguments)

    async def call(self, function: Callable[[], T], client: str) -> T:
        """Run a function that uses the model, between two steps of the engine."""
        return await asyncio.wrap_future(self.engine.call(function, client=client))

    def fetch(self, url: str) -> bytes:
        """Download an image that a request names by URL. Raises BTCChatError."""
        most = self.settings.max_body
        return fetch(url, self.settings.allow_urls, most_bytes=most, seconds=FETCH_SECONDS)

    def frames(self, images: RequestImages, reading: Reading) -> list[Image.Image]:
        """The RGB frames of a request, in order of time. Raises BTCChatError."""
        count = self.model.config.num_video_frames
        return read_frames(images, num_video_frames=count, reading=reading, settings=self.settings)

    def sample(self, question: Question, frames: Sequence[Image.Image]) -> Sample:
        """The model's input for a question about frames. Raises BTCChatError."""
        modality, images = question.images.modality, list(frames) or None
        texts = [question.text, question.system or "", *(turn["value"] for turn in question.history)]
        length, room = sum(map(len, [*texts, *(question.dates or ())])), self.model.config.model_max_length
        if length > TOKEN_CHARACTERS * room:  # before it is made into tokens, which needs 50 times its memory
            raise BTCChatError(
                f"the question has {length:,} characters with the turns before it, far more than the {room:,} tokens "
                "that the model takes; shorten it"
            )
        if question.dates is not None and modality not in ("pair", "series"):
            raise BTCChatError(f"dates: got some for one {modality}; give one for each image of a pair or a series")
        record = request(question.text, modality, images, dates=question.dates, history=question.history)
        return self.model.processor(record, frames, train=False, system=question.system)
