import http.client
import json
import socket

import pytest
import requests

from btcchat.errors import BTCChatError
from btcchat.serve.http import fetch as fetching
from btcchat.serve.http.fetch import fetch, is_public
from btcchat.serve.http.security import HEADERS
from btcchat.serve.http.settings import Settings, is_loopback, read_keys
from tests.serve.http.conftest import AFTER, BEFORE, PAIR, wait_until, words

KEY = "0123456789abcdef0123456789abcdef"


def sent(url: str, lines: bytes, seconds: float = 100.0) -> bytes:
    """Send bytes to the server; -> the bytes of its response."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), seconds) as connection:
        connection.sendall(lines)
        data = b""
        while piece := connection.recv(65536):
            data += piece
    return data


# -- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/docs", "/v1/info", "/v1/models/none", "/nowhere", "/examples/before.png", "/healthz"]
)
def test_every_answer_has_the_headers(live, path):
    reply = live.get(path)
    for name, value in HEADERS.items():
        assert reply.headers[name] == value
    assert "server" not in reply.headers


@pytest.mark.parametrize(
    ("path", "status"),
    [
        *((path, 200) for path in ("/", "/docs", "/docs/start.js", "/openapi.json", "/page/index.html")),
        *((path, 200) for path in ("/healthz", "/readyz", "/v1/info", "/v1/models")),
        ("/v1/models/none", 404),
        ("/v1/caption", 405),
    ],
)
def test_a_head_request_is_answered_as_get_without_the_body(live, path, status):
    head, got = requests.head(live.url + path, timeout=60), live.get(path)
    assert head.status_code == got.status_code == status
    assert {**head.headers, "date": ""} == {**got.headers, "date": ""}
    whole = sent(live.url, f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert whole.endswith(b"\r\n\r\n") and whole.count(b"\r\n\r\n") == 1


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere():
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy and "http" not in policy and "*" not in policy
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy


def test_the_documentation_needs_no_network(live):
    page = live.get("/docs").text
    assert "//" not in page and "style=" not in page and "<style" not in page
    for path in ("/docs/static/swagger-ui.css", "/docs/static/swagger-ui-bundle.js", "/docs/start.js"):
        assert path in page
        assert live.get(path).status_code == 200
    assert live.get("/docs/start.js").headers["content-type"].startswith("text/javascript")


def test_the_example_is_served_and_nothing_around_it(live):
    assert live.get("/examples/before.png").content == BEFORE.read_bytes()
    for path in (
        "/examples/../tiny/config.json",
        "/examples/%2e%2e/tiny/config.json",
        "/page/../engine.py",
        "/page//etc/passwd",
    ):
        line = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        assert sent(live.url, line).split()[1] in (b"404", b"400")


# -- access ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:1"])
def test_names_of_this_machine_are_served(live, host):
    assert live.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.org:80", "[", "10.0.0.1", ""]
)
def test_other_host_names_for_this_machine_are_refused(live, host):
    reply = live.get("/v1/models", headers={"Host": host})
    assert reply.status_code in (400, 403)
    with_key = Settings(keys=(KEY,))
    assert not with_key.local_only  # with a key, a proxy's host name is accepted


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "http://["])
def test_pages_of_other_sites_are_refused(live, origin):
    reply = live.post("/v1/caption", files={"before": b"x"}, headers={"Origin": origin})
    assert reply.status_code == 403
    assert reply.json()["error"]["type"] == "permission_error"
    assert "access-control-allow-origin" not in reply.headers


def test_the_page_itself_may_use_the_api(live):
    assert live.get("/v1/models", headers={"Origin": live.url}).status_code == 200


def test_an_allowed_site_may_use_the_api(started):
    live = started(cors_origins=("https://good.example",), keys=(KEY,))
    headers = {"Origin": "https://good.example", "Authorization": f"Bearer {KEY}"}
    reply = live.get("/v1/models", headers=headers)
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == "https://good.example"
    preflight = {"Origin": headers["Origin"], "Access-Control-Request-Method": "POST"}
    assert live_options(live, preflight).status_code == 200
    assert live.get("/v1/models", headers=headers | {"Origin": "https://bad.example"}).status_code == 403


def live_options(live, headers):
    import requests

    return requests.options(live.url + "/v1/caption", headers=headers, timeout=30)


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", f"Basic {KEY}", KEY, f"Bearer {KEY[:-1]}"])
def test_without_the_key_nothing_is_read(started, given):
    live = started(keys=(KEY,))
    headers = {} if given is None else {"Authorization": given}
    for path in ("/v1/models", "/v1/info", "/metrics"):
        assert live.get(path, headers=headers).status_code == 401
    reply = live.post("/v1/chat/completions", data=b"x" * 10**6, headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")
    assert reply.headers["www-authenticate"] == "Bearer"
    for path in ("/docs", "/healthz", "/readyz", "/examples/after.png"):
        assert live.get(path).status_code == 200
    assert live.get("/v1/models", headers={"Authorization": f"bearer {KEY}"}).status_code == 200


def test_a_host_that_others_can_reach_needs_a_key():
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(BTCChatError, match="give --api-key-file FILE, or --insecure"):
            Settings(host=host)
        assert Settings(host=host, keys=(KEY,)) and Settings(host=host, insecure=True)
    assert [host for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1") if not is_loopback(host)] == []


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "is empty"),
        ("# only this\n\n", "has no key"),
        ("short\n", "key 1 must have at least 16 printable ASCII characters"),
        (f"{KEY}\nwith a space in it\n", "key 2 must have"),
        ("é" * 20, "key 1 must have"),
    ],
)
def test_a_file_of_bad_keys_is_refused(tmp_path, content, message):
    (tmp_path / "keys").write_text(content, encoding="utf-8")
    with pytest.raises(BTCChatError, match=message) as caught:
        read_keys(str(tmp_path / "keys"))
    assert KEY not in str(caught.value)


def test_keys_are_read_one_per_line(tmp_path):
    (tmp_path / "keys").write_text(f"# of the team\n{KEY}\n\n  {KEY[::-1]}  \n")
    assert read_keys(str(tmp_path / "keys")) == (KEY, KEY[::-1])
    with pytest.raises(BTCChatError, match="--api-key-file .*none' not found"):
        read_keys(str(tmp_path / "none"))


def test_settings_survive_the_transfer_to_another_process():
    settings = Settings(model={"path": "x"}, keys=(KEY,), allow_urls=("a.org",), cors_origins=("*",), bands="4,3,2")
    assert Settings.from_json(settings.to_json()) == settings


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_body_above_the_limit_is_413_while_it_streams(started):
    live = started(max_body=100_000)
    assert live.post("/v1/chat/completions", data=b"x" * 200_000).status_code == 413  # with a Content-Length
    reply = live.post("/v1/chat/completions", data=(b"y" * 10_000 for _ in range(30)))  # without one
    assert reply.status_code == 413
    assert "100,000 bytes" in reply.json()["error"]["message"]
    assert live.upload("/v1/caption", before=b"z" * 200_000).status_code == 413
    assert live.ask(words()).status_code == 200


def test_a_body_that_never_ends_is_cut_off(started):
    live = started(max_body=10_000)
    connection = http.client.HTTPConnection(live.url.removeprefix("http://"), timeout=20)
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    try:
        for _ in range(100_000):
            connection.send(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
    except OSError:
        pass  # the server has closed it
    else:
        pytest.fail("the server accepted a gigabyte")
    assert live.ask(words()).status_code == 200


def test_a_body_that_does_not_arrive_is_given_up(started):
    live = started(max_seconds=0.5)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf"
    reply = sent(live.url, head)
    assert reply.split()[1] == b"408"
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["message"].endswith("did not arrive in time")


def test_too_many_bytes_at_the_same_time_are_refused(started, monkeypatch):
    monkeypatch.setattr("btcchat.serve.http.security.UPLOADS", 1)
    live = started(max_body=50_000)
    host = live.url.removeprefix("http://").split(":")
    with socket.create_connection((host[0], int(host[1])), 20) as slow:
        slow.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 45000\r\n\r\n" + b"x" * 40_000
        )
        post = lambda: live.post("/v1/chat/completions", data=b"x" * 40_000)  # noqa: E731
        wait_until(lambda: post().status_code == 429)  # 400 until the slow body has arrived
        assert "retry-after" in post().headers
    wait_until(lambda: post().status_code == 400)


# -- images by URL ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "::1", "fe80::1", "fc00::1",
     "::ffff:10.0.0.1", "224.0.0.1", "100.64.0.1", "2002:0a00:0001::1", "fe80::1%eth0"],
)  # fmt: skip
def test_private_addresses_are_known(address):
    assert not is_public(address)


def test_public_addresses_are_known():
    assert is_public("93.184.216.34") and is_public("2606:2800:220:1::1")


def resolve_to(monkeypatch, *addresses: str) -> None:
    monkeypatch.setattr(fetching, "addresses", lambda host: list(addresses))


@pytest.mark.parametrize(
    "url, message",
    [
        ("https://other.org/a.png", "not fetched from 'other.org'"),
        ("https://good.org.evil.org/a.png", "not fetched from"),
        ("https://good.org:8080/a.png", "not fetched from 'good.org'"),
        ("https://me:secret@good.org/a.png", "with a user name"),
        ("ftp://good.org/a.png", "expected a data: URL"),
        ("http://[::1/", "is not a valid URL"),
        ("//good.org/a", "expected a data: URL"),
        ("http://good.org:99999/", "is not a valid URL"),
    ],
)
def test_only_allowed_hosts_are_contacted(monkeypatch, url, message):
    monkeypatch.setattr(fetching, "addresses", lambda host: pytest.fail("the host was looked up"))
    with pytest.raises(BTCChatError, match=message.replace("(", r"\(")):
        fetch(url, ["good.org"], most_bytes=1000, seconds=5)


def test_an_allowed_host_in_a_private_network_is_refused(monkeypatch):
    for addresses in (["127.0.0.1"], ["93.184.216.34", "10.0.0.1"]):
        resolve_to(monkeypatch, *addresses)
        with pytest.raises(
            BTCChatError, match="good.org is in a private network, .*; send the image itself, as a data: URL"
        ):
            fetch("http://good.org/a.png", ["good.org"], most_bytes=1000, seconds=5)


def test_a_host_that_does_not_exist_is_a_one_line_error():
    with pytest.raises(BTCChatError, match="the host no-such-host.invalid was not found; .* data: URL"):
        fetch("http://no-such-host.invalid/", ["no-such-host.invalid"], most_bytes=1000, seconds=5)


@pytest.fixture
def site(monkeypatch):
    """A web site on this machine, as if it were a public one called good.org; -> (its host, the requests it got)."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            received.append((self.path, self.headers["Host"]))
            self.send_response(302 if "away" in self.path else 200)
            self.send_header("Location", "http://127.0.0.1/secret")
            self.end_headers()
            self.wfile.write(AFTER.read_bytes() if "png" in self.path else b"x" * 5000)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    resolve_to(monkeypatch, "127.0.0.1")
    monkeypatch.setattr(fetching, "is_public", lambda address: True)
    yield f"good.org:{server.server_port}", received
    server.shutdown()


def test_an_image_from_an_allowed_host_is_fetched(site, started):
    host, received = site
    live = started(allow_urls=(host,))
    url = {"type": "image_url", "image_url": {"url": f"http://{host}/a.png?size=1"}}
    reply = live.ask(url, PAIR[1], words(), max_tokens=3)
    assert reply.status_code == 200, reply.text
    assert received == [("/a.png?size=1", host)]


def test_nothing_is_fetched_for_a_request_with_too_many_images(site, started):
    host, received = site
    live = started(allow_urls=(host,), max_images=2)
    url = {"type": "image_url", "image_url": {"url": f"http://{host}/a.png"}}
    reply = live.ask(url, url, url, words())
    assert reply.status_code == 400 and "3 images, this server takes at most 2" in reply.text
    assert received == []


def test_the_images_of_a_request_are_bounded_together(site, started):
    host, received = site
    live = started(allow_urls=(host,), max_body=3 * len(AFTER.read_bytes()) // 2)
    url = {"type": "image_url", "image_url": {"url": f"http://{host}/a.png"}}
    assert live.ask(url, words(), max_tokens=1).status_code == 200
    reply = live.ask(url, url, url, words())
    assert reply.status_code == 400 and "bytes together" in reply.text
    assert len(received) == 3  # the third image of the second request is not fetched


def test_redirects_are_not_followed_and_bytes_are_bounded(site):
    host, received = site
    with pytest.raises(BTCChatError, match="status 302, and redirects are not followed; .* data: URL"):
        fetch(f"http://{host}/away", [host], most_bytes=1000, seconds=5)
    with pytest.raises(BTCChatError, match="good.org sends more than the limit of 1,000 bytes; name a smaller file"):
        fetch(f"http://{host}/large", [host], most_bytes=1000, seconds=5)
    assert len(received) == 2


def test_a_host_that_does_not_answer_is_a_one_line_error(monkeypatch):
    resolve_to(monkeypatch, "127.0.0.1")
    monkeypatch.setattr(fetching, "is_public", lambda address: True)
    with pytest.raises(BTCChatError, match="nothing could be fetched from good.org: .*; .* data: URL"):
        fetch("http://good.org:9/a.png", ["good.org:9"], most_bytes=1000, seconds=5)


def test_an_address_that_cannot_be_used_is_an_error_with_a_way_out():
    from btcchat.serve.http.server import bind

    with bind("127.0.0.1", 0) as taken:
        for host, port, reason in (
            ("127.0.0.1", taken.getsockname()[1], "Address already in use"),
            ("no-such-host.invalid", 8000, ""),
        ):
            with pytest.raises(BTCChatError, match=f"^--host {host} --port {port} cannot be used: {reason}") as error:
                bind(host, port)
            assert str(error.value).endswith(
                "; give another --port, or an address of this machine, e.g. --host 127.0.0.1"
            )
            assert "[Errno" not in str(error.value)
