"""Requests per second and latency of ``btcchat serve``, with answers written together and one at a time.

    python benchmarks/serve.py                       # about half an hour on two cores
    python benchmarks/serve.py --tokens 64 --clients 16 --memory-requests 0
    python benchmarks/serve.py --smoke               # toy sizes, takes a minute

The model has random weights and the sizes of benchmarks/generate.py: SigLIP of width 768, 12 layers, 384 px; a LLaMA of
width 768, 12 layers; 32,000 words; float32. Each request streams an answer about a pair of PNG files of 256 x 256
pixels (196 tokens) with a question of 60 tokens, and each answer has exactly --tokens tokens. Clients are threads of
another process on the same machine; each sends its next request once it has its answer. "One at a time" is the same
server with --max-batch 1. Latency is the time from sending a request to its last token; "first token" is the time to
the first piece of text. CPU seconds are those of the server, and depend less on the load of the machine.

"Beside long answers" is the time to the first token of a request for a single token, alone and while three other
clients receive long answers. Memory is the resident memory of a server of the packaged model while 8 clients send
--memory-requests requests with images.
"""

import argparse
import base64
import io
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import requests
import torch
from PIL import Image

from btcchat.eval.encoders.machine import machine
from btcchat.eval.encoders.markdown import table
from generate import SIZES, SMALL, build, question_of

GOAL = 2.0  # times the requests per second of one at a time, with 16 clients and 64 new tokens
MODES = {"together": 16, "one at a time": 1}


@contextmanager
def server(*flags: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run ``btcchat serve`` in a process of its own; -> its URL and process, once the model is loaded."""
    command = [sys.executable, "-m", "btcchat", "serve", "--port", "0", "--device", "cpu", "--dtype", "float32", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://\S+", process.stderr.readline())[0]
        while requests.get(f"{address}/readyz", timeout=60).status_code != 200:
            time.sleep(0.2)
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def picture(seed: int) -> str:
    """A data URL of an image of 256 x 256 pixels."""
    coarse = torch.randint(256, (9, 9, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse.numpy()).resize((256, 256)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def body(model: str, question: str, tokens: int, seed: int = 0) -> dict:
    pair = [{"type": "image_url", "image_url": {"url": picture(2 * seed + date)}} for date in range(2)]
    content = [*pair, {"type": "text", "text": question}]
    return {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": tokens, "stream": True}


def ask(session: requests.Session, address: str, request: dict) -> tuple[float, float]:
    """Send a request; -> seconds to the first piece of text, and to the last."""
    begun, first = time.perf_counter(), None
    with session.post(f"{address}/v1/chat/completions", json=request, stream=True, timeout=600) as reply:
        reply.raise_for_status()
        for line in reply.iter_lines():
            if (
                line.startswith(b"data: {")
                and first is None
                and json.loads(line[6:])["choices"][0]["delta"].get("content")
            ):
                first = time.perf_counter()
    end = time.perf_counter()
    return (end if first is None else first) - begun, end - begun


def load(address: str, process: psutil.Process, bodies: list[dict], clients: int) -> dict[str, float]:
    """Send all ``bodies`` from ``clients`` threads; -> requests per second, and latencies in seconds."""
    found: list[tuple[float, float]] = []
    waiting = iter(bodies)
    lock = threading.Lock()

    def client() -> None:
        with requests.Session() as session:
            while True:
                with lock:
                    request = next(waiting, None)
                if request is None:
                    return
                found.append(ask(session, address, request))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    begun, before = time.perf_counter(), cpu_seconds(process)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    firsts, whole = sorted(first for first, _ in found), sorted(last for _, last in found)
    return {
        "requests/s": len(bodies) / seconds,
        "p50": statistics.median(whole),
        "p95": quantile(whole),
        "first p50": statistics.median(firsts),
        "first p95": quantile(firsts),
        "CPU s": (cpu_seconds(process) - before) / len(bodies),
    }


def quantile(ordered: list[float], share: float = 0.95) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def throughput(folder: Path, question: str, args: argparse.Namespace) -> list[str]:
    rows, rates = [], {}
    for mode, rows_together in MODES.items():
        with server("--model", str(folder), "--max-batch", str(rows_together)) as (address, process):
            ask(requests.Session(), address, body(str(folder), question, 2))  # warm-up
            for tokens in args.tokens:
                for clients in args.clients:
                    count = max(args.requests, clients)
                    bodies = [body(str(folder), question, tokens, seed) for seed in range(count)]
                    found = load(address, process, bodies, clients)
                    rates[mode, tokens, clients] = found["requests/s"]
                    print(
                        f"  {mode}, {tokens} tokens, {clients} clients: {found['requests/s']:.2f} requests/s",
                        flush=True,
                    )
                    rows.append([mode, tokens, clients, *(f"{value:.2f}" for value in found.values())])
            if rows_together > 1:
                lines = beside_long_answers(folder, address, process, question, args)
    head = [
        "answers",
        "new tokens",
        "clients",
        "requests/s",
        "p50 s",
        "p95 s",
        "first token p50 s",
        "first token p95 s",
        "CPU s a request",
    ]
    gains = [
        f"{tokens} new tokens, {clients} clients: {rates['together', tokens, clients] / rate:.2f} times the "
        f"requests per second of one at a time" + (f" (goal {GOAL:g})" if (tokens, clients) == (64, 16) else "")
        for (mode, tokens, clients), rate in rates.items()
        if mode == "one at a time"
    ]
    return [table(head, rows), "", *gains, "", *lines]


def beside_long_answers(
    folder: Path, address: str, process: psutil.Process, question: str, args: argparse.Namespace
) -> list[str]:
    short, long = body(str(folder), question, 1), body(str(folder), question, args.long)
    with requests.Session() as session:
        alone = statistics.median(ask(session, address, short)[0] for _ in range(5))
        others = threading.Thread(target=load, args=(address, process, [long] * 3, 3))
        others.start()
        time.sleep(args.settle)
        beside = [ask(session, address, short)[0] for _ in range(5)]
        others.join()
    return [f"first token alone {alone:.2f} s, beside 3 long answers {statistics.median(beside):.2f} s (median of 5)"]


def flat(args: argparse.Namespace) -> list[str]:
    """The memory of a server under many requests."""
    with server("--max-queue", "64") as (address, process):
        question, sizes, done = "What changed?", [], 0
        bodies = [body("tiny", question, 8, seed) for seed in range(16)]
        step = max(1, args.memory_requests // 10)
        while done < args.memory_requests:
            load(address, process, [bodies[number % 16] for number in range(step)], 8)
            done += step
            sizes.append(process.memory_info().rss / 2**20)
            print(f"  {done} requests: {sizes[-1]:.0f} MiB", flush=True)
    grown = f"{sizes[0]:.0f} MiB after {step:,}, {sizes[-1]:.0f} MiB after {done:,}; largest {max(sizes):.0f} MiB"
    return [f"memory of the server with the packaged model, after so many requests of 8 clients: {grown}"]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--tokens", nargs="*", type=int, default=[64, 16], help="new tokens of an answer (default 64 16)")
    add("--clients", nargs="+", type=int, default=[1, 4, 16], help="parallel clients (default 1 4 16)")
    add("--requests", type=int, default=12, help="requests per row, at least one per client (default 12)")
    add("--memory-requests", type=int, default=5000, help="requests while memory is measured (default 5000)")
    add("--long", type=int, default=256, help="new tokens of the long answers (default 256)")
    add("--settle", type=float, default=5.0, help="seconds to wait for the long answers to start (default 5)")
    add("--smoke", action="store_true", help="toy sizes, to try the script")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    print(f"{machine(torch.device('cpu'))}, torch {torch.__version__}\n", flush=True)
    lines = []
    if args.tokens:
        with tempfile.TemporaryDirectory() as folder:
            model = build(SMALL if args.smoke else SIZES, torch.float32)
            question = question_of(model)
            model.save_pretrained(Path(folder) / "model")
            del model
            lines += throughput(Path(folder) / "model", question, args)
    if args.memory_requests:
        lines += flat(args)
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
