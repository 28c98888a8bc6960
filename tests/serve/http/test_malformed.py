"""Whatever is sent, the response is an error in the usual format, and the next request is answered."""

import json
import random

import psutil

from tests.serve.http.conftest import AFTER, BEFORE, data_url, wait_until_idle, words
from tests.serve.http.test_security import sent

ROUTES = ("/v1/chat/completions", "/v1/caption", "/v1/change_map", "/v1/frames")
ODD = [
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    10**30,
    "",
    "\ud800",
    "\0",
    "x" * 1000,
    [],
    {},
    [[]],
    {"a": {}},
    "data:,",
]


def valid(generator: random.Random) -> dict:
    """A valid request."""
    picture = {"type": "image_url", "image_url": {"url": data_url(BEFORE)}}
    content = [picture] * generator.randint(0, 2) + [words()]
    return {"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 2, "stop": ["."]}


def spoiled(value, generator: random.Random):
    """The same request with another value in one place."""
    if generator.random() < 0.25 or not value or not isinstance(value, dict | list):
        return generator.choice(ODD)
    place = generator.choice(list(value)) if isinstance(value, dict) else generator.randrange(len(value))
    changed = value.copy()
    if generator.random() < 0.15:
        changed.pop(place)
    elif isinstance(changed, dict) and generator.random() < 0.15:
        changed[generator.choice(["tools", "n", "x" * 50, "é", "seed"])] = generator.choice(ODD)
    else:
        changed[place] = spoiled(changed[place], generator)
    return changed


def broken(data: bytes, generator: random.Random) -> bytes:
    kind = generator.randrange(4)
    place = generator.randrange(len(data) + 1)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + generator.randbytes(generator.randint(1, 20)) + data[place:]
    if kind == 2:
        return generator.randbytes(generator.randint(0, 300))
    return b'{"messages": ' + b"[" * generator.choice([10, 1000, 100_000])


def bodies(generator: random.Random) -> tuple[str, bytes, str]:
    """(route, body, content type)."""
    route = generator.choice(ROUTES)
    if route == ROUTES[0]:
        body = json.dumps(spoiled(valid(generator), generator)).encode()
        return route, broken(body, generator) if generator.random() < 0.4 else body, "application/json"
    parts = [("before", BEFORE.read_bytes()), ("after", AFTER.read_bytes()), ("files", b"x"), ("modality", b"pair")]
    generator.shuffle(parts)
    body = b""
    for name, data in parts[: generator.randint(0, 4)]:
        data = broken(data, generator) if generator.random() < 0.8 else data
        file = b'; filename="\xff"' if generator.random() < 0.7 else b""
        body += (
            b'--B\r\nContent-Disposition: form-data; name="'
            + name.encode()
            + b'"'
            + file
            + b"\r\n\r\n"
            + data
            + b"\r\n"
        )
    body += b"--B--\r\n"
    kind = generator.choice(["multipart/form-data; boundary=B"] * 4 + ["multipart/form-data", "text/plain", "", "é/ü"])
    return route, broken(body, generator) if generator.random() < 0.3 else body, kind


def test_a_thousand_malformed_bodies_are_answered_with_errors(live):
    generator, statuses = random.Random(16), {}
    before = 0.0
    for number in range(1000):
        if number == 300:
            before = psutil.Process().memory_info().rss
        route, body, kind = bodies(generator)
        reply = live.post(route, data=body, headers={"Content-Type": kind.encode("latin-1", "replace")})
        statuses[reply.status_code] = statuses.get(reply.status_code, 0) + 1
        if reply.status_code != 200:
            assert reply.status_code in (400, 404, 413, 415, 422), (reply.status_code, reply.text, route, body[:200])
            error = reply.json()["error"]
            assert "\n" not in error["message"] and len(error["message"]) <= 300
    assert statuses[400] > 300 and statuses[415] > 20 and statuses[422] > 20, statuses
    assert psutil.Process().memory_info().rss - before < 100 * 2**20
    wait_until_idle(live)
    assert live.ask(words()).status_code == 200


def test_malformed_http_is_refused(live):
    lines = b"GET", b"\0\1\2", b"POST /v1/caption HTTP/1.1\r\nContent-Length: x"
    for line in lines:
        assert sent(live.url, line + b"\r\n\r\n").split()[1] == b"400"
    assert live.get("/v1/nothing").json()["error"]["type"] == "not_found_error"
    assert live.get("/v1/caption").status_code == 405
    assert live.get("/healthz").status_code == 200
