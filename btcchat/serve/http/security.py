"""Who may ask, and how much they may send. Plain ASGI, so that nothing of a body is read before it is allowed."""

import hmac
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from btcchat.serve.http.errors import APIError, response
from btcchat.serve.http.settings import Settings, is_loopback

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob: data:; connect-src 'self'; font-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # a browser asks whether a file is newer, so that an updated page is whole
}
DISCARDED = 4  # times the limit: what is read of a body that is too large, so that its sender reads the answer
UPLOADS = 8  # bodies of the largest size that may be in memory together


class SecurityHeaders:
    """Adds HEADERS to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)


class Access:
    """Refuses a request without the key, from a web page of another site, or that names another host."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self.keys = [key.encode() for key in settings.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (error := self._refusal(scope)) is not None:
            await response(error)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> APIError | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.settings.local_only and not _is_local(host, self.settings.host):
            # Otherwise any web page could reach this server through a name of its own that leads to 127.0.0.1.
            return APIError(
                403, f"the host {host[:80]!r} is not this server's; give --api-key-file to serve other names"
            )
        if origin is not None and urlsplit(origin).netloc != host and not self._is_allowed(origin):
            return APIError(403, f"pages of {origin[:80]!r} may not use this server; allow it with --cors-origin")
        path = scope["path"]
        if self.keys and (path.startswith("/v1/") or path == "/metrics") and not self._has_key(headers):
            return APIError(
                401, "the API key is missing or wrong; send Authorization: Bearer KEY", code="invalid_api_key"
            )
        return None

    def _is_allowed(self, origin: str) -> bool:
        return "*" in self.settings.cors_origins or origin in self.settings.cors_origins

    def _has_key(self, headers: Headers) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = key.strip().encode("latin-1", "replace")
        matches = [hmac.compare_digest(given, own) for own in self.keys]  # of all of them, in constant time
        return scheme.lower() == "bearer" and any(matches)


def _is_local(host: str, own: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == own or is_loopback(name)


class Bounded:
    """Bounds what the requests that are worked on may take: their number, their bytes, and their time.

    A body is counted while it streams in: one above the limit is thrown away, and answered with 413. A request that
    would be one too many, or whose body does not fit beside the others', is answered with 429 before it is read.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self.most = settings.max_queue + settings.max_batch
        self.requests = self.bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH", "DELETE"):
            await self.app(scope, receive, send)
            return
        if self.requests >= self.most:
            full = APIError(
                429, f"{self.most} requests are worked on or waiting already; try again later", code="queue_full"
            )
            await response(full)(scope, receive, send)
            return
        body = _Body(self, receive)
        self.requests += 1
        started = False

        async def send_noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            with anyio.fail_after(self.settings.max_seconds + 60):  # an answer that nobody reads ends too
                await self._check_length(scope, body)
                await self.app(scope, body.receive, send_noting)
        except (APIError, TimeoutError) as error:
            if not started:
                known = error if isinstance(error, APIError) else APIError(408, "the request took too long")
                await response(known)(scope, receive, send)
        finally:
            self.requests -= 1
            self.bytes -= body.size

    async def _check_length(self, scope: Scope, body: "_Body") -> None:
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > self.settings.max_body:
            await body.refuse()


class _Body:
    """The body of a request while it arrives."""

    def __init__(self, bounds: Bounded, receive: Receive) -> None:
        self.bounds, self._receive = bounds, receive
        self.size = 0
        self.complete = False

    async def receive(self) -> Message:
        if self.complete:  # what comes now is only that the client has left
            return await self._receive()
        try:
            with anyio.fail_after(self.bounds.settings.max_seconds):
                message = await self._receive()
        except TimeoutError:
            raise APIError(408, "the body of the request did not arrive in time") from None
        size = len(message.get("body", b""))
        self.complete = not message.get("more_body", False)
        self.size += size
        self.bounds.bytes += size
        if self.size > self.bounds.settings.max_body:
            await self.refuse()
        if self.bounds.bytes > UPLOADS * self.bounds.settings.max_body:
            raise APIError(429, "too many large requests are worked on already; try again later", code="queue_full")
        return message

    async def refuse(self) -> None:
        """Throw away what still comes, so that the sender gets to reading the answer, and raise it."""
        limit = self.bounds.settings.max_body
        thrown = 0
        while not self.complete and thrown < DISCARDED * limit:
            message = await self._receive()
            thrown += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        raise APIError(413, f"the request has more than {limit:,} bytes, which is the limit; send smaller images")
