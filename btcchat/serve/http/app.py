"""The ASGI app: its routes, and the middleware around them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from btcchat import __version__
from btcchat.serve.http import openai, pages, uploads
from btcchat.serve.http.errors import add_handlers
from btcchat.serve.http.metrics import Counted
from btcchat.serve.http.request_body import ChatRequest
from btcchat.serve.http.security import Access, Bounded, SecurityHeaders
from btcchat.serve.http.service import Service

ABOUT = "Ask questions about remote sensing images, pairs, series and videos; see docs/serving.md."


def build_app(service: Service) -> ASGIApp:
    """Build the app of a service. Until its model is loaded, the app answers requests with 503."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.stop()

    app = FastAPI(
        title="btcchat",
        version=__version__,
        description=ABOUT,
        docs_url=None,  # pages.py has a page that needs no network
        redoc_url=None,
        lifespan=lifespan,
    )
    for part in (openai, uploads, pages):
        app.include_router(part.routes(service))
    pages.mount(app)
    add_handlers(app)
    app.openapi = _documented(app)  # type: ignore[method-assign]
    guarded: ASGIApp = Access(Bounded(app, service.settings), service.settings)
    if service.settings.cors_origins:
        guarded = CORSMiddleware(
            guarded,
            allow_origins=service.settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Change-Range", "Retry-After"],
        )
    return HeadAsGet(SecurityHeaders(Counted(guarded, service.metrics)))


class HeadAsGet:
    """Answers HEAD as GET, for load balancers and ``curl -I``; uvicorn leaves out the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # a copy: uvicorn looks at its own
        await self.app(scope, receive, send)


def _documented(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """Make the OpenAPI document, with the schema of the one body that a route parses itself."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schemas = make()["components"]["schemas"]
            own = ChatRequest.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= own.pop("$defs")
            schemas["ChatRequest"] = own
        return make()

    return openapi
