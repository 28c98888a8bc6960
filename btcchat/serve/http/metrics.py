"""Metrics for Prometheus, at /metrics. With replicas, all processes write to one folder, and each reports for all."""

import os
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from btcchat.serve.engine import Engine
from btcchat.serve.job import Answer

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # environment variable that prometheus-client reads when it is imported
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
ROWS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters, histograms and gauges of one process."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter("btcchat_requests", "Requests answered", ["route", "status"], registry=own)
        self.request_seconds = Histogram(
            "btcchat_request_seconds", "Seconds from request to response", ["route"], buckets=SECONDS, registry=own
        )
        self.refusals = Counter("btcchat_refusals", "Requests refused, by status", ["status"], registry=own)
        self.first_token_seconds = Histogram(
            "btcchat_first_token_seconds", "Seconds from arrival to the first token", buckets=SECONDS, registry=own
        )
        self.batch_rows = Histogram("btcchat_batch_rows", "Answers written in a step", buckets=ROWS, registry=own)
        self.prompt_tokens = Counter("btcchat_prompt_tokens", "Prompt tokens, including those of images", registry=own)
        self.completion_tokens = Counter("btcchat_completion_tokens", "Tokens generated", registry=own)
        self.answers = Counter("btcchat_answers", "Answers, by how they ended", ["reason"], registry=own)
        self.waiting = Gauge("btcchat_queue", "Requests in the queue", multiprocess_mode="livesum", registry=own)
        self.active = Gauge("btcchat_active", "Answers being written", multiprocess_mode="livesum", registry=own)

    def ended(self, answer: Answer) -> None:
        """Record an answer that has ended."""
        self.prompt_tokens.inc(answer.prompt_tokens)
        self.completion_tokens.inc(answer.completion_tokens)
        self.answers.labels(answer.finish_reason or "cancelled").inc()
        if answer.first_token is not None:
            self.first_token_seconds.observe(answer.first_token - answer.arrived)

    def stepped(self, rows: int, engine: Engine) -> None:
        """Record a step that wrote a token of each of ``rows`` answers."""
        if rows:
            self.batch_rows.observe(rows)
        self.count(engine)

    def count(self, engine: Engine) -> None:
        self.waiting.set(engine.waiting)
        self.active.set(engine.active)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        if FOLDER not in os.environ:
            return generate_latest(self.registry)
        everything = CollectorRegistry()
        multiprocess.MultiProcessCollector(everything)
        return generate_latest(everything)


class Counted:
    """Counts requests by route and status, with the seconds they took."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, start = 500, time.monotonic()

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_noting)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # the route's pattern: a client can send any path
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.request_seconds.labels(route).observe(time.monotonic() - start)
            if status >= 400:
                self.metrics.refusals.labels(str(status)).inc()
