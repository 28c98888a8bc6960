"""Await an answer that the engine's thread writes, and cancel it when the client disconnects."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from fastapi import Request

from btcchat.generation import GenerationOptions
from btcchat.processor import Sample
from btcchat.serve.http.errors import CLIENT_LEFT, APIError, from_engine
from btcchat.serve.http.service import Service


class ClientLeft(APIError):
    """The client disconnected; nobody reads the response."""

    def __init__(self) -> None:
        super().__init__(CLIENT_LEFT, "the client closed the connection")


class LiveAnswer:
    """An answer that a request awaits. Creating one submits it, and raises what `Engine.submit` raises."""

    def __init__(self, service: Service, request: Request, sample: Sample, options: GenerationOptions):
        self._service, self._request = service, request
        self._received: asyncio.Queue[str | None] = asyncio.Queue()  # at most as long as the longest answer
        loop = asyncio.get_running_loop()

        def deliver(piece: str | None) -> None:
            with suppress(RuntimeError):  # the loop is closed: the server has stopped
                loop.call_soon_threadsafe(self._received.put_nowait, piece)

        self.answer = service.engine.submit(sample, options, client=client_of(request), deliver=deliver)

    async def pieces(self) -> AsyncGenerator[str, None]:
        """The text as it is written, without leading or trailing space. Raises APIError if the answer is broken off."""
        watch = asyncio.create_task(self._watch())
        begun, space = False, ""
        try:
            while (piece := await self._received.get()) is not None:
                text = space + (piece if begun else piece.lstrip())
                space = text[len(text.rstrip()) :]
                if text := text.rstrip():
                    begun = True
                    yield text
                elif not begun:
                    space = ""
            self._check(watch)
        finally:
            watch.cancel()
            self.answer.cancel()
            self._service.metrics.ended(self.answer)

    async def whole(self) -> str:
        """The whole text. Raises APIError, as `pieces` does."""
        return "".join([piece async for piece in self.pieces()])

    @property
    def finish_reason(self) -> str:
        """The reason as OpenAI names it."""
        return "length" if self.answer.finish_reason == "seconds" else str(self.answer.finish_reason)

    @property
    def notes(self) -> dict[str, Any]:
        """Facts about the answer that OpenAI's fields have no place for."""
        return {"cut_by": "seconds"} if self.answer.finish_reason == "seconds" else {}

    def usage(self) -> dict[str, int]:
        read, written = self.answer.prompt_tokens, self.answer.completion_tokens
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    async def _watch(self) -> None:
        """Wait until the client disconnects, then cancel the answer."""
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.answer.cancel()

    def _check(self, watch: "asyncio.Task[None]") -> None:
        if self.answer.error is not None:
            raise from_engine(self.answer.error)
        if self.answer.finish_reason == "cancelled":
            if watch.done():
                raise ClientLeft
            raise APIError(503, "the server is shutting down; try again later", code="shutting_down")


def client_of(request: Request) -> str:
    return "" if request.client is None else request.client.host
