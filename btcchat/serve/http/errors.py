"""Errors as OpenAI's clients expect them: ``{"error": {"message", "type", "param", "code"}}`` with the right status."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from btcchat.errors import BTCChatError, one_line
from btcchat.serve.engine import Closed, QueueFull
from btcchat.serve.job import OutOfTime

log = logging.getLogger(__name__)

RETRY_SECONDS = 5
CLIENT_LEFT = 499  # nginx's status for a client that disconnected; nobody reads this response
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
MEANINGS = {
    400: "The request is invalid; the message says why",
    401: "The API key is missing or wrong",
    403: "The request comes from another site's web page, or names another host",
    404: "No such model",
    408: "The body did not arrive in time",
    413: "The body is larger than the server accepts",
    415: "A file is not a readable image, or the body is not multipart/form-data",
    422: "A field is missing or wrong",
    429: "Too many requests are waiting; try again after Retry-After seconds",
    500: "The model could not compute the answer",
    503: "The model is being loaded, or the server is shutting down",
}


class APIError(HTTPException):
    """An error response. param: the field that is wrong. code: a machine-readable name of the error."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        headers = {"Retry-After": str(RETRY_SECONDS)} if status in (429, 503) else {}
        headers |= {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        headers |= {"Connection": "close"} if status in (408, 413) else {}  # more of the body may be on its way
        super().__init__(status, one_line(message), headers)
        self.param, self.code = param, code


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    error: ErrorDetail


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route: errors with these statuses, and those that any route can have."""
    everywhere = (401, 403, 408, 413, 429, 500, 503)
    return {status: {"model": ErrorBody, "description": MEANINGS[status]} for status in (*statuses, *everywhere)}


def from_engine(error: Exception) -> APIError:
    """The error response for an exception from an engine, which refused a request or ended it."""
    if isinstance(error, QueueFull):
        return APIError(429, str(error), code="queue_full")
    if isinstance(error, Closed):
        return APIError(503, "the server is shutting down; try again later", code="shutting_down")
    if isinstance(error, OutOfTime):
        return APIError(503, str(error), code="timeout")
    return APIError(500, str(error), code="model_error")


def body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def response(error: HTTPException) -> JSONResponse:
    param, code = (error.param, error.code) if isinstance(error, APIError) else (None, None)
    headers: Mapping[str, str] | None = error.headers
    return JSONResponse(body(error.status_code, str(error.detail), param, code), error.status_code, headers)


def add_handlers(app: FastAPI) -> None:
    """Answer every error of the app in this format, whatever raised it."""

    @app.exception_handler(HTTPException)
    async def known(_: Request, error: HTTPException) -> JSONResponse:
        return response(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        kind = request.headers.get("content-type", "")
        if request.method == "POST" and not kind.lower().startswith("multipart/form-data"):
            return response(
                APIError(415, f"the content type is {kind[:80] or 'missing'}, expected multipart/form-data")
            )
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][1:])
        message = first["msg"]
        if "UploadFile" in message:
            message = f"expected a file, but it is text; with curl, write -F {name}=@FILE"
        return response(APIError(422, f"{name or 'the body'}: {message}", param=name or None))

    @app.exception_handler(BTCChatError)
    async def refused(_: Request, error: BTCChatError) -> JSONResponse:
        return response(APIError(400, str(error)))

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        log.error("a request failed", exc_info=error)
        message = f"internal error, {type(error).__name__}; the server's log has its traceback"
        return response(APIError(500, message, code="internal_error"))
