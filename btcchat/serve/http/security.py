"""Access control, and limits on requests. Plain ASGI, so that no part of a body is read before it is allowed."""

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
    "Cache-Control": "no-cache",  # browsers check for newer files, so that an updated page is never mixed with old ones
}
DISCARDED = 4  # times the limit: how much of too large a body is discarded, so that its sender reads the response
UPLOADS = 8  # bodies of the largest size that may be in memory at the same time


class SecurityHeaders:
    """Adds HEADERS to every response."""

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
    """Refuses requests that lack the key, come from another site's web page, or name another host."""

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
            # Otherwise any web page could reach this server through a host name of its own that resolves to 127.0.0.1.
            return APIError(
                403, f"the host {host[:80]!r} is not a name of this machine; start with --api-key-file to serve others"
            )
        if origin is not None and origin.partition("://")[2] != host and not self._is_allowed(origin):
            return APIError(403, f"web pages of {origin[:80]!r} may not use this server; allow them with --cors-origin")
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
        matches = [hmac.compare_digest(given, own) for own in self.keys]  # all of them, in constant time
        return scheme.lower() == "bearer" and any(matches)


def _is_local(host: str, own: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == own or is_loopback(name)


class Bounded:
    """Limits the requests in progress: their number, their bytes, and their time.

    A body is counted while it streams in; one above the limit is discarded and answered with 413. A request is answered
    with 429 if there are too many already, or if its body does not fit in memory beside those of the others.
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
                429, f"{self.most} requests are already in progress or waiting; try again later", code="queue_full"
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
            with anyio.fail_after(self.settings.max_seconds + 60):  # ends an answer that the client does not read
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
        if self.complete:  # the only message left is that the client disconnected
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
            raise APIError(429, "too many large requests are already in progress; try again later", code="queue_full")
        return message

    async def refuse(self) -> None:
        """Discard the rest of the body, so that its sender reads the response, then raise APIError 413."""
        limit = self.bounds.settings.max_body
        discarded = 0
        while not self.complete and discarded < DISCARDED * limit:
            message = await self._receive()
            discarded += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        raise APIError(413, f"the request is larger than the limit of {limit:,} bytes; send smaller images")
