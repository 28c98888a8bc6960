"""OpenAI's routes: ``POST /v1/chat/completions`` and ``GET /v1/models``."""

import json
import secrets
import time
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from btcchat.errors import BTCChatError
from btcchat.generation import GenerationOptions
from btcchat.processor import Sample
from btcchat.serve.engine import Closed, QueueFull
from btcchat.serve.http.errors import APIError, body, documented, from_engine
from btcchat.serve.http.live import LiveAnswer
from btcchat.serve.http.question import options_of, question_of, reading_of
from btcchat.serve.http.request_body import ChatRequest, parse
from btcchat.serve.http.service import Service

FIELDS = ("bands", "stretch", "nodata", "dates")  # an error about one of them begins with its name


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(BaseModel):
    role: str = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    index: int = 0
    message: AnswerMessage
    logprobs: None = None
    finish_reason: str


class Completion(BaseModel):
    """An answer. btcchat: the modality that was assumed for the images, and their number."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    btcchat: dict[str, Any]


def routes(service: Service) -> APIRouter:
    router = APIRouter()
    accepted = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ChatRequest"}}},
    }
    answers = documented(400, 404)
    answers[200] = {"model": Completion, "content": {"text/event-stream": {"schema": {"type": "string"}}}}

    @router.post("/v1/chat/completions", responses=answers, openapi_extra={"requestBody": accepted})
    async def chat_completions(request: Request) -> Response:
        """Answer a question about images from OpenAI's clients; with `stream` the answer is sent as it is written."""
        _ = service.engine  # answers 503 before anything is read
        chat, sample, options, about = await service.read(_prepare, service, await request.body())
        try:
            live = LiveAnswer(service, request, sample, options)
        except (QueueFull, Closed) as error:
            raise from_engine(error) from None
        except BTCChatError as error:
            raise APIError(400, str(error), param="messages") from None
        head: dict[str, Any] = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": chat.model,
        }
        if not chat.stream:
            message = AnswerMessage(content=await live.whole())
            choice = Choice(message=message, finish_reason=live.finish_reason)
            completion = Completion(**head, choices=[choice], usage=Usage(**live.usage()), btcchat=about | live.notes)
            return Response(completion.model_dump_json(), media_type="application/json")
        pieces = live.pieces()
        first = await anext(pieces, "")  # an error before the first piece can still set the status
        events = _events(
            head, about, live, first, pieces, chat.stream_options is not None and chat.stream_options.include_usage
        )
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    @router.get("/v1/models", responses=documented())
    async def models() -> dict[str, Any]:
        """The loaded model, in the format of OpenAI's list of models."""
        return {"object": "list", "data": [_described(service)]}

    @router.get("/v1/models/{model:path}", responses=documented(404))
    async def model(model: str) -> dict[str, Any]:
        check_model(model, service)
        return _described(service)

    return router


def _described(service: Service) -> dict[str, Any]:
    return {"id": service.settings.model_id, "object": "model", "created": 0, "owned_by": "btcchat"}


def check_model(name: str, service: Service) -> None:
    """Raise APIError 404 if ``name`` is not the loaded model."""
    if name != service.settings.model_id:
        known = service.settings.model_id
        raise APIError(
            404, f"unknown model {name[:80]!r}; this server has {known!r}", param="model", code="model_not_found"
        )


def _prepare(service: Service, data: bytes) -> tuple[ChatRequest, Sample, GenerationOptions, dict[str, Any]]:
    """Parse a body and prepare the model's input, in a reader thread. Raises APIError."""
    chat = parse(data)
    check_model(chat.model, service)
    options = options_of(chat, service.settings)
    try:
        question = question_of(chat, service.fetch, service.settings)
        frames = service.frames(question.images, reading_of(chat, service.settings))
        sample = service.sample(question, frames)
    except BTCChatError as error:
        first = str(error).split(" ")[0].rstrip(":")
        raise APIError(400, str(error), param=first if first in FIELDS else "messages") from None
    return chat, sample, options, {"modality": question.images.modality, "images": len(sample["frames"])}


async def _events(
    head: dict[str, Any],
    about: dict[str, Any],
    live: LiveAnswer,
    first: str,
    pieces: AsyncGenerator[str, None],
    include_usage: bool,
) -> AsyncGenerator[str, None]:
    def chunk(delta: dict[str, Any], finish_reason: str | None = None, **others: Any) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event({**head, "object": "chat.completion.chunk", "choices": [choice], **others})

    try:
        yield chunk({"role": "assistant", "content": ""}, btcchat=about)
        if first:
            yield chunk({"content": first})
        async for piece in pieces:
            yield chunk({"content": piece})
        yield chunk({}, live.finish_reason, **({"btcchat": about | live.notes} if live.notes else {}))
        if include_usage:
            yield _event({**head, "object": "chat.completion.chunk", "choices": [], "usage": live.usage()})
        yield "data: [DONE]\n\n"
    except APIError as error:
        yield _event(body(error.status_code, str(error.detail), error.param, error.code))
    finally:
        await pieces.aclose()


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
