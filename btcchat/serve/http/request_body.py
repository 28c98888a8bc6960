"""The body of ``POST /v1/chat/completions``: OpenAI's fields as far as they make sense here, and a few of our own."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from btcchat.media.frames import MODALITIES
from btcchat.serve.http.errors import APIError

MOST_MESSAGES = 200
UNSUPPORTED = {  # OpenAI's fields that are refused, with what to do instead
    "tools": "leave it out: the model calls no functions",
    "tool_choice": "leave it out: the model calls no functions",
    "functions": "leave it out: the model calls no functions",
    "function_call": "leave it out: the model calls no functions",
    "response_format": "leave it out: the answer is plain text",
    "top_logprobs": "leave it out",
    "logit_bias": "leave it out",
    "audio": "leave it out: answers are always text",
    "modalities": "leave it out: answers are always text; name the kind of images in the field modality",
}


class Body(BaseModel):
    """A null counts as a field that was left out; a field that cannot have an effect is an error, not ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def without_nulls(cls, values: Any) -> Any:
        return (
            {name: value for name, value in values.items() if value is not None} if isinstance(values, dict) else values
        )


class TextPart(Body):
    type: Literal["text"]
    text: str


class Address(Body):
    url: str = Field(description="data:TYPE;base64,DATA; http and https only with --allow-urls")
    detail: Literal["auto", "low", "high"] = Field("auto", description="Accepted, without effect.")


class ImagePart(Body):
    type: Literal["image_url"]
    image_url: Address


class VideoPart(Body):
    type: Literal["video_url"]
    video_url: Address


Part = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]


class SystemMessage(Body):
    """Only as the first message; replaces the system text of the model's prompt template."""

    role: Literal["system", "developer"]
    content: str | list[TextPart]
    name: str = ""


class UserMessage(Body):
    """Images belong in the first user message."""

    role: Literal["user"]
    content: str | list[Part]
    name: str = ""


class AssistantMessage(Body):
    role: Literal["assistant"]
    content: str | list[TextPart]
    name: str = ""
    annotations: list[Any] = Field([], max_length=0)  # clients send it back with an answer


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]


class StreamOptions(Body):
    include_usage: bool = False
    include_obfuscation: bool = Field(False, description="Accepted, without effect.")


class ChatRequest(Body):
    """A question, and the conversation before it."""

    model: str
    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    modality: Literal["text", "image", "pair", "series", "video"] | None = Field(
        None, description="The kind of images. By default their number decides: image, pair or series."
    )
    dates: list[str] | None = Field(None, description="The date of each image of a pair or series.")
    bands: str | None = Field(None, description="Bands to use as red, green and blue, such as 4,3,2.")
    stretch: str | None = Field(None, description="shared, per-date, none or LOW,HIGH.")
    nodata: str | None = Field(None, description="The pixel value that marks missing data, or none.")
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(0.0, ge=0, le=2, description="0 (the default) is greedy.")
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63)
    stop: str | list[str] = Field([], max_length=16)
    n: Literal[1] = 1
    logprobs: Literal[False] = False
    frequency_penalty: float = Field(0.0, ge=0, le=0, description="Only 0.")
    presence_penalty: float = Field(0.0, ge=0, le=0, description="Only 0.")
    user: str = Field("", description="Accepted, without effect.")
    metadata: dict[str, str] = Field({}, description="Accepted, without effect.")
    store: Literal[False] = False


assert set(MODALITIES) == {"text", "image", "pair", "series", "video"}


def parse(body: bytes) -> ChatRequest:
    """Parse the body of a request. Raises APIError 400 that names the wrong field."""
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> APIError:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    fault = max(faults, key=lambda fault: len(fault["loc"]))  # of a union: of the member that matched furthest
    param = _name(fault["loc"])
    message = fault["msg"]
    if fault["type"] == "extra_forbidden":
        message = f"this field is not supported; {UNSUPPORTED.get(param, 'leave it out')}"
    return APIError(400, f"{param or 'the body'}: {message}", param=param or None)


def _name(loc: tuple[int | str, ...]) -> str:
    """The path of a field, such as ``messages[0].content[1].image_url``, without the names of union members."""
    members = {"system", "developer", "user", "assistant", "text", "image_url", "video_url", "str"}
    name, previous = "", None
    for part in loc:
        if isinstance(part, int):
            name += f"[{part}]"
        elif not (isinstance(previous, int) and part in members) and not part.startswith(
            ("list[", "str", "constrained")
        ):
            name += f".{part}" if name else part
        previous = part
    return name[:80]
