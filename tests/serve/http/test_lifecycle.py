"""Loading, a full queue, clients that disconnect, and shutdown."""

import os
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest
import requests

from btcchat import cli
from btcchat.errors import BTCChatError
from btcchat.generation import Decoder
from tests.serve.http.conftest import PAIR, start, stop, wait_until, wait_until_idle, words


def test_until_the_model_is_loaded_requests_are_503(tiny):
    loaded = threading.Event()
    live = start(tiny, wait=False, load=lambda _: loaded.wait(30) and tiny)
    wait_until(lambda: live.server.started)
    try:
        for reply in (live.get("/readyz"), live.get("/v1/info"), live.ask(words()), live.upload("/v1/caption")):
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "loading")
            assert int(reply.headers["retry-after"]) > 0
        assert live.get("/healthz").json() == {"status": "ok"}
        loaded.set()
        wait_until(lambda: live.get("/readyz").status_code == 200)
        assert live.ask(words()).status_code == 200
    finally:
        loaded.set()
        stop(live)


def test_a_model_that_cannot_be_loaded_ends_the_server():
    def load(_):
        raise BTCChatError("no such model")

    live = start(None, wait=False, load=load)
    live.server.thread.join(30)
    assert not live.server.thread.is_alive()
    assert str(live.service.failure) == "no such model"


def test_a_gpu_that_computes_nothing_more_ends_the_server(tiny, monkeypatch):
    def faulty(decoder):
        raise RuntimeError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`")

    live = start(tiny)
    monkeypatch.setattr(Decoder, "step", faulty)
    assert live.ask(words()).status_code == 500
    live.server.thread.join(30)
    assert not live.server.thread.is_alive() and not live.service.is_ready
    message = "the GPU cannot be used any more (CUDA error: device-side assert triggered); start the server again"
    assert str(live.service.failure) == message


def test_a_full_server_says_when_to_try_again(started, gate):
    live = started(max_batch=1, max_queue=1)
    gate.close()
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(live.ask, words(), max_tokens=2)]
        gate.wait()  # it is being written, and has left the queue
        answers.append(pool.submit(live.ask, words(), max_tokens=2))
        wait_until(lambda: live.service.engine.waiting == 1)
        reply = live.ask(words())
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "queue_full")
        assert int(reply.headers["retry-after"]) > 0
        assert live.get("/readyz").status_code == 200
        metrics = live.get("/metrics").text
        assert 'btcchat_refusals_total{status="429"} 1.0' in metrics and "btcchat_queue 1.0" in metrics
        gate.open()
        assert [answer.result().status_code for answer in answers] == [200, 200]


def test_an_answer_cut_off_by_the_time_limit_says_so(started, gate, endless):
    live = started(max_seconds=200)
    gate.close()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(live.ask, words(), max_tokens=900)
        gate.wait()
        [row] = live.service.engine._rows
        assert row.deadline == row.arrived + 200
        row.deadline = row.arrived  # as if they had passed during the first step
        gate.open()
        reply = asked.result().json()
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["btcchat"]["cut_by"] == "seconds"


def test_a_client_that_is_killed_in_mid_stream_frees_its_slot(started, endless):
    live = started(max_batch=1)
    body = b'{"model": "tiny", "stream": true, "max_tokens": 900, "messages": [{"role": "user", "content": "Hello"}]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for _ in range(5):
        host, port = live.url.removeprefix("http://").split(":")
        client = socket.create_connection((host, int(port)), 30)
        client.sendall(head + body)
        received = b""
        while received.count(b"data:") < 4:
            piece = client.recv(4096)
            assert piece, received
            received += piece
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # as when a process is killed
        client.close()
    wait_until_idle(live)
    assert live.ask(words(), max_tokens=2).status_code == 200


def memory() -> float:
    return psutil.Process().memory_info().rss / 2**20


def test_ten_times_the_queue_is_refused_without_growing(started, capsys):
    live = started(max_batch=4, max_queue=8)
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=80))

    def ask(number: int) -> tuple[int, str, float]:
        begun = time.monotonic()
        messages = [{"role": "user", "content": [*PAIR, words("What changed?")]}]
        body = {"model": "tiny", "messages": messages, "max_tokens": 8}
        reply = session.post(f"{live.url}/v1/chat/completions", json=body, timeout=120)
        text = reply.json()["choices"][0]["message"]["content"] if reply.status_code == 200 else ""
        return reply.status_code, text, time.monotonic() - begun

    expected = ask(0)[1]
    found, sizes = [], []
    with ThreadPoolExecutor(80) as pool:  # clients; 12 requests are in progress or waiting
        for _ in range(3):
            found += pool.map(ask, range(80))
            sizes.append(memory())
    session.close()
    statuses = [status for status, _, _ in found]
    assert set(statuses) == {200, 429} and statuses.count(200) >= 12
    assert {text for status, text, _ in found if status == 200} == {expected}
    seconds = sorted(took for status, _, took in found if status == 200)
    p50, p95 = statistics.median(seconds), seconds[int(0.95 * len(seconds))]
    assert sizes[-1] - sizes[0] < 60, sizes
    wait_until_idle(live)
    with capsys.disabled():
        refused = f"240 requests of 80 clients: {statuses.count(429)} refused"
        grown = f"memory {[round(size) for size in sizes]} MiB"
        sys.stdout.write(f"\n{refused}, p50 {p50:.2f} s, p95 {p95:.2f} s, {grown}\n")


# -- the command ------------------------------------------------------------------------------------------------------


@contextmanager
def command(*flags: str, **options):
    """options: of Popen. -> the process of ``btcchat serve`` and its address, once the model is loaded."""
    words = [sys.executable, "-m", "btcchat", "serve", "--port", "0", *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment, **options) as process:
        try:
            printed, found = "", None  # Ray's own lines come before it
            while not found:
                line = process.stderr.readline()
                assert line, printed
                printed, found = printed + line, re.search(r"http://\S+(?= \(press Ctrl-C)", line)
            address = found[0]
            while not is_ready(address):
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.1)
            yield process, address
        finally:
            process.kill()


def is_ready(address: str) -> bool:
    try:
        return requests.get(f"{address}/readyz", timeout=10).status_code == 200
    except requests.RequestException:
        return False


def test_sigterm_finishes_what_is_being_written():
    messages = [{"role": "user", "content": "Describe everything."}]
    body = {"model": "tiny", "messages": messages, "max_tokens": 400, "temperature": 2, "seed": 5, "stream": True}
    with command("--drain-seconds", "200") as (process, url):
        with requests.post(f"{url}/v1/chat/completions", json=body, stream=True, timeout=60) as reply:
            lines = reply.iter_lines()
            first = next(lines)
            process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert first.startswith(b"data:") and rest[-1] == b"data: [DONE]"
        assert process.wait(100) == 143
        assert "terminated" in process.stderr.read()


def test_a_wrong_model_or_address_is_a_one_line_error(capsys):
    assert cli.main(["serve", "--port", "0", "--model", "/no/such/model"]) == 2
    assert "/no/such/model" in capsys.readouterr().err.splitlines()[-1]
    assert cli.main(["serve", "--host", "192.0.2.1"]) == 2
    assert "--api-key-file" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert cli.main(["serve", "--port", str(taken.getsockname()[1])]) == 2
    assert "Address already in use; give another --port" in capsys.readouterr().err
    assert cli.main(["serve", "--port", "70000"]) == 2
    assert cli.main(["serve", "--bands", "1,2"]) == 2
    for flag in (["--cors-origin", "https://a.org/"], ["--cors-origin", "a.org"], ["--allow-urls", "https://a.org"]):
        assert cli.main(["serve", *flag]) == 2  # each would have no effect
        assert "expected a" in capsys.readouterr().err


WITHOUT = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *others: None if name == "fastapi" else find(name, *others)
from btcchat import cli
code = cli.main(["serve"])
print({"torch", "transformers"} & set(sys.modules))
raise SystemExit(code)
"""
HELP = """
import sys
from btcchat import cli
try:
    cli.main(["serve", "--help"])
except SystemExit:
    assert not {"fastapi", "uvicorn", "torch"} & set(sys.modules)
"""


def test_without_the_extra_one_line_says_what_to_install():
    found = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60)
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1 and "pip install 'btcchat[serve]'" in found.stderr
    assert found.stdout == "set()\n", "nothing that takes seconds is imported"


def test_the_help_imports_nothing_of_the_server():
    assert subprocess.run([sys.executable, "-c", HELP], capture_output=True, timeout=60).returncode == 0


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
def test_replicas_share_a_port_and_their_metrics():
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
    with command("--replicas", "2") as (process, url):
        statuses = [requests.post(f"{url}/v1/chat/completions", json=body, timeout=60).status_code for _ in range(12)]
        assert set(statuses) <= {200, 503} and 200 in statuses  # one of them may not have its model yet

        def counted() -> float:
            metrics = requests.get(f"{url}/metrics", timeout=30).text
            total = re.search(r'btcchat_requests_total{route="/v1/chat/completions",status="200"} (\S+)', metrics)
            return float(total[1]) if total else 0

        wait_until(lambda: counted() == statuses.count(200))  # an answer is counted after it was sent
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(100) == 143
        wait_until(lambda: not any(map(lives, children)))  # Python's own resource tracker ends a little later
        assert "Warning" not in process.stderr.read()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal")
@pytest.mark.parametrize("nohup", [False, True])
def test_replicas_end_with_their_terminal_unless_it_was_nohup(nohup):
    heed = signal.SIG_IGN if nohup else signal.SIG_DFL
    options = {"start_new_session": True, "preexec_fn": lambda: signal.signal(signal.SIGHUP, heed)}
    with command("--replicas", "2", **options) as (process, url):
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGHUP)  # as the system does when a terminal is closed
        if nohup:
            time.sleep(3)
            assert process.poll() is None and all(map(lives, children))
            return
        assert process.wait(100) == -signal.SIGHUP
        wait_until(lambda: not any(map(lives, children)))
        assert process.stderr.read() == ""


@pytest.mark.slow
def test_ray_serves_the_same_app(monkeypatch):
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with command("--engine", "ray", "--port", port) as (process, url):
        body = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3, "stream": True}
        assert requests.post(f"{url}/v1/chat/completions", json=body, timeout=60).text.endswith("data: [DONE]\n\n")
        assert requests.post(f"{url}/v1/chat/completions", json={}, timeout=60).status_code == 400
        process.send_signal(signal.SIGTERM)
        assert process.wait(100) == 143
