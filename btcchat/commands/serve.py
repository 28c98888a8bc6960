"""``btcchat serve``: a web page and an API for one model that answers many requests at once."""

import argparse
import re

from btcchat.commands import options
from btcchat.commands.options import BASE, MODEL, RAW, Commands, add_device, add_images, at_least_1
from btcchat.compat.extras import require
from btcchat.console.messages import say

SERVE = """\
Serve a web page and an API that OpenAI's clients can use.

  btcchat serve                                           http://127.0.0.1:8000, this machine only
  btcchat serve --model CHECKPOINT --port 9000
  btcchat serve --host 0.0.0.0 --api-key-file keys.txt    other machines too, with a key

docs/serving.md describes the API, its limits, and security."""


def add(commands: Commands) -> None:
    about = "serve a web page and an API that OpenAI's clients can use"
    parser = commands.add_parser("serve", help=about, description=SERVE, **RAW)
    group = parser.add_argument_group("model")
    group.add_argument("--model", metavar="PATH_OR_ID", help=MODEL)
    group.add_argument("--base", metavar="PATH_OR_ID", help=BASE)
    add_device(group)
    group.add_argument(
        "--num-video-frames", type=at_least_1, metavar="N", help="frames taken of a video (default: the model's)"
    )
    add_images(parser)
    add = parser.add_argument_group("where").add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine only)")
    add("--port", type=_port, default=8000, help="port to listen on (default 8000; 0 picks a free one)")
    add("--replicas", type=at_least_1, default=1, metavar="N", help="processes, each with the model (default 1)")
    engines = "uvicorn (default), or ray: replicas on the machines of a Ray cluster"
    add("--engine", choices=("uvicorn", "ray"), default="uvicorn", help=engines)
    add = parser.add_argument_group("access").add_argument
    add("--api-key-file", metavar="FILE", help="file of keys, one per line; each request needs one of them")
    add("--insecure", action="store_true", help="serve anyone who can reach --host, without a key")
    add(
        "--allow-urls",
        type=_hosts,
        default=(),
        metavar="HOSTS",
        help="hosts that images may be downloaded from, e.g. a.org,b.org",
    )
    origin = "web pages of this origin may use the API, e.g. https://my.site; * for all"
    add("--cors-origin", action="append", type=_origin, default=[], metavar="ORIGIN", help=origin)
    add = parser.add_argument_group("limits").add_argument
    add(
        "--max-queue",
        type=at_least_1,
        default=64,
        metavar="N",
        help="maximum requests in the queue; further ones are refused (default 64)",
    )
    add("--max-batch", type=at_least_1, default=16, metavar="N", help="answers generated at the same time (default 16)")
    cache = "total tokens of all answers being generated, with their prompts (default 8192)"
    add("--max-batch-tokens", type=at_least_1, default=8192, metavar="N", help=cache)
    add("--max-images", type=at_least_1, default=16, metavar="N", help="maximum images per request (default 16)")
    add("--max-megapixels", type=at_least_1, default=64, metavar="N", help="maximum megapixels per image (default 64)")
    add("--max-body", type=at_least_1, default=64, metavar="MIB", help="maximum MiB per request (default 64)")
    add(
        "--max-new-tokens",
        type=at_least_1,
        default=1024,
        metavar="N",
        help="maximum tokens per answer (default 1024)",
    )
    add(
        "--max-seconds",
        type=at_least_1,
        default=300,
        metavar="S",
        help="maximum seconds from a request to the end of its answer (default 300)",
    )
    add(
        "--drain-seconds",
        type=at_least_1,
        default=30,
        metavar="S",
        help="seconds for answers to finish when the server is stopped (default 30)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="print more on stderr")
    parser.set_defaults(run=run, parser=parser, many_images=True)


def run(args: argparse.Namespace) -> int:
    from btcchat.serve.http.settings import MIB, Settings, read_keys

    options.reading(args)  # its faults are reported before anything is loaded
    names = ("base", "cc_head", "num_video_frames", "vision_tower", "device", "dtype", "quantize")
    model = {"path": args.model} | {name: getattr(args, name) for name in names}
    settings = Settings(
        model={name: value for name, value in model.items() if value is not None},
        bands=args.bands,
        stretch=args.stretch,
        nodata=args.nodata,
        host=args.host,
        keys=() if args.api_key_file is None else read_keys(args.api_key_file),
        insecure=args.insecure,
        allow_urls=args.allow_urls,
        cors_origins=tuple(args.cors_origin),
        max_queue=args.max_queue,
        max_batch=args.max_batch,
        max_batch_tokens=args.max_batch_tokens,
        max_images=args.max_images,
        max_pixels=args.max_megapixels * 1_000_000,
        max_body=args.max_body * MIB,
        max_new_tokens=args.max_new_tokens,
        max_seconds=args.max_seconds,
        drain_seconds=args.drain_seconds,
    )
    _check_installed("ray" if args.engine == "ray" else "serve")

    def listening(address: str) -> None:
        say(f"serving {settings.model_id} at {address} (press Ctrl-C to stop)")

    if args.engine == "ray":
        from btcchat.serve.http.ray_serve import serve_on_ray

        serve_on_ray(settings, args.port, replicas=args.replicas, listening=listening)
    else:
        from btcchat.serve.http.server import serve

        serve(settings, args.port, replicas=args.replicas, listening=listening)
    return 0


def _check_installed(extra: str) -> None:
    """Check for packages before torch is imported, which takes seconds."""
    needed = ["fastapi", "uvicorn", "multipart", "prometheus_client", "fastapi_offline"]
    for name in [*needed, "ray"] if extra == "ray" else needed:
        require(name, "btcchat serve", f"'btcchat[{extra}]'")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"got '{text}', expected a number from 0 to 65535")
    return int(text)


def _hosts(text: str) -> tuple[str, ...]:
    hosts = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    for host in hosts:
        if not re.fullmatch(r"[^/*@\s]+", host):
            raise argparse.ArgumentTypeError(f"got '{host}', expected a host such as a.org or a.org:8080")
    return hosts


def _origin(text: str) -> str:
    if not re.fullmatch(r"\*|null|[A-Za-z][A-Za-z0-9+.-]*://[^/\s]+", text):
        raise argparse.ArgumentTypeError(f"got '{text}', expected an origin such as https://my.site, without a path")
    return text.lower()  # as browsers send it
