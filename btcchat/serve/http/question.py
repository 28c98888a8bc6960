"""Turn OpenAI's messages into a question. Only here may the number of images decide what kind they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from btcchat.decoding.options import GenerationOptions
from btcchat.errors import BTCChatError
from btcchat.media.reading import Reading
from btcchat.media.source import Embedded
from btcchat.serve.http.errors import APIError
from btcchat.serve.http.images import Fetch, RequestImages, check_number, decode_url
from btcchat.serve.http.request_body import ChatRequest, ImagePart, SystemMessage, TextPart, UserMessage, VideoPart
from btcchat.serve.http.settings import Settings

DEFAULT_TOKENS = 128


@dataclass(frozen=True)
class Question:
    """A question about images. history and dates: as in `btcchat.request`."""

    text: str
    images: RequestImages
    history: Sequence[Mapping[str, str]] = ()
    system: str | None = None
    dates: Sequence[str] | None = None


def question_of(request: ChatRequest, fetch: Fetch, settings: Settings) -> Question:
    """The question of a request. Raises APIError 400 that names the wrong message, BTCChatError for wrong images."""
    messages = list(request.messages)
    system = None
    if isinstance(messages[0], SystemMessage):
        system = _text(messages.pop(0).content)
    for number, message in enumerate(messages):
        expected = ("user", "assistant")[number % 2]
        if message.role != expected:
            place = len(request.messages) - len(messages) + number
            raise APIError(
                400,
                f"messages[{place}] has role {message.role}, expected {expected}: roles must alternate",
                param="messages",
            )
    if len(messages) % 2 == 0:
        raise APIError(400, "messages must end with a question, in a message with role user", param="messages")
    speakers = {"user": "human", "assistant": "gpt"}
    turns = [{"from": speakers[message.role], "value": _text(message.content)} for message in messages]
    return Question(turns[-1]["value"], _images_of(request, fetch, settings), turns[:-1], system, request.dates)


def _text(content: str | Sequence[Any]) -> str:
    return (
        content if isinstance(content, str) else "\n".join(part.text for part in content if isinstance(part, TextPart))
    )


def _images_of(request: ChatRequest, fetch: Fetch, settings: Settings) -> RequestImages:
    users = [message for message in request.messages if isinstance(message, UserMessage)]
    attached = [[part for part in _parts(message) if not isinstance(part, TextPart)] for message in users]
    if any(attached[1:]):
        raise APIError(
            400, "images belong in the first user message; send them there in every request", param="messages"
        )
    parts: list[Any] = attached[0]
    check_number(len(parts), settings)  # before any of them is downloaded
    videos = [part for part in parts if isinstance(part, VideoPart)]
    if videos and len(parts) > 1:
        raise APIError(
            400, "a request can have one video and no images beside it; leave out the rest", param="messages"
        )
    default = "video" if videos else ("text", "image", "pair")[len(parts)] if len(parts) < 3 else "series"
    modality = request.modality or default
    if videos and modality != "video":
        raise APIError(
            400, f"modality is {modality!r}, but the request has a video_url; use image_url", param="modality"
        )
    if request.modality == "text" and parts:
        raise APIError(
            400, "modality is 'text', but the request has images; leave out one or the other", param="modality"
        )
    files = []
    for number, part in enumerate(parts, start=1):
        url = part.image_url.url if isinstance(part, ImagePart) else part.video_url.url
        files.append(Embedded("video" if videos else f"image {number}", decode_url(url, fetch)))
        if sum(len(file.data) for file in files) > settings.max_body:
            raise BTCChatError(f"the images have more than the limit of {settings.max_body:,} bytes together")
    return RequestImages(modality, files, is_video=bool(videos))


def _parts(message: UserMessage) -> Sequence[Any]:
    return message.content if isinstance(message.content, list) else []


def options_of(request: ChatRequest, settings: Settings) -> GenerationOptions:
    """How the answer is generated. Raises APIError that names the wrong field."""
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise APIError(400, "max_tokens and max_completion_tokens mean the same; give only one", param="max_tokens")
    name = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
    tokens = check_tokens(request.max_tokens or request.max_completion_tokens, settings, name, status=400)
    stop = [request.stop] if isinstance(request.stop, str) else request.stop
    try:
        return GenerationOptions(tokens, request.temperature, request.top_p, seed=request.seed, stop=stop)
    except BTCChatError as error:
        raise APIError(400, str(error), param=str(error).split(" ")[0]) from None


def check_tokens(tokens: int | None, settings: Settings, name: str, *, status: int) -> int:
    """The maximum number of new tokens, by default DEFAULT_TOKENS. Raises APIError above the server's limit."""
    if tokens is not None and tokens > settings.max_new_tokens:
        raise APIError(
            status, f"{name} is {tokens}; this server writes at most {settings.max_new_tokens} tokens", param=name
        )
    return min(DEFAULT_TOKENS, settings.max_new_tokens) if tokens is None else tokens


def reading_of(fields: Any, settings: Settings) -> Reading:
    """How to read the images: as the request says, otherwise as the server's flags say. Raises BTCChatError."""
    words = [getattr(fields, name) or getattr(settings, name) for name in ("bands", "stretch", "nodata")]
    try:
        return Reading.parse(*words)
    except BTCChatError as error:
        raise BTCChatError(str(error).removeprefix("--")) from None
