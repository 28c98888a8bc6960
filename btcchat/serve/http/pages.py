"""What a browser opens: the page, the examples, the documentation of the API, and the server's status."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.staticfiles import StaticFiles

from btcchat import __version__
from btcchat.assets import PACKAGE
from btcchat.serve.http.errors import documented
from btcchat.serve.http.question import DEFAULT_TOKENS
from btcchat.serve.http.service import Service

PAGE = Path(__file__).parents[1] / "page"
DOCS = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>btcchat API</title>
<link rel="stylesheet" href="/docs/static/swagger-ui.css"></head>
<body><div id="docs"></div>
<script src="/docs/static/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body></html>
"""
START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null});\n'


def routes(service: Service) -> APIRouter:
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(DOCS)

    @router.get("/docs/start.js", include_in_schema=False)
    async def start() -> Response:
        return Response(START, media_type="text/javascript")

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process is running."""
        return {"status": "ok"}

    @router.get("/readyz", responses={503: documented()[503]})
    async def readyz() -> dict[str, str]:
        """Whether the model is loaded and accepts requests."""
        _ = service.engine
        return {"status": "ready"}

    @router.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        if service.is_ready:
            service.metrics.count(service.engine)
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/v1/info", responses=documented())
    async def info() -> dict[str, Any]:
        """The loaded model, the limits on a request, and the defaults of fields that a request leaves out."""
        settings, config = service.settings, service.model.config
        limits = {
            "images": settings.max_images,
            "pixels": settings.max_pixels,
            "body_bytes": settings.max_body,
            "new_tokens": settings.max_new_tokens,
            "seconds": settings.max_seconds,
            "prompt_tokens": config.model_max_length,
            "video_frames": config.num_video_frames,
        }
        tokens = min(DEFAULT_TOKENS, settings.max_new_tokens)
        return {
            "model": settings.model_id,
            "demo": settings.model_id == "tiny",
            "version": __version__,
            "caption_question": config.caption_question,
            "limits": limits,
            "defaults": {"max_tokens": tokens, "temperature": 0.0, **settings.reading.record()},
        }

    return router


def mount(app: FastAPI) -> None:
    """Serve the folders of static files."""
    import fastapi_offline

    swagger = Path(fastapi_offline.__file__).parent / "static"
    for path, folder in (("/page", PAGE), ("/examples", PACKAGE / "assets" / "example"), ("/docs/static", swagger)):
        app.mount(path, StaticFiles(directory=folder))
