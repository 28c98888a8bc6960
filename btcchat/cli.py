"""The command ``btcchat``: its options, messages on stderr and exit codes. Subcommands are in btcchat/commands/."""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from btcchat.commands import COMMANDS
from btcchat.commands.options import RAW, Parser, complain
from btcchat.console import ending
from btcchat.console.messages import Formatter
from btcchat.console.signals import clean_exit
from btcchat.plugins import enable_flags, take_flags

DESCRIPTION = """\
Say what changed between two dates of the same place, or ask about an image, a series or a video.

  btcchat caption before.png after.png
  btcchat caption --pairs list.csv --out answers.jsonl
  btcchat ask "How many houses were built?" --pair before.png after.png
  btcchat chat
  btcchat data convert levir_cc LEVIR-CC annotations/levir_cc
  btcchat eval CHECKPOINT levir_cc:val
  btcchat train tiny/1_align
  btcchat score predictions.jsonl

Without --model, btcchat uses the packaged tiny model, a demonstration trained on synthetic scenes."""


@clean_exit
def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; an error is one line on stderr. See `console.ending`."""
    return ending.run(lambda: _command(sys.argv[1:] if argv is None else argv), complain)


def _command(argv: list[str]) -> int:
    plugins, words = take_flags(argv)
    args = build_parser().parse_args(words, argparse.Namespace(plugins=plugins))
    if args.run is None:
        args.parser.print_help()
        return 0
    many = getattr(args, "many_images", False) or getattr(args, "pairs", None) is not None
    with _notes(args.verbose, many):
        if not args.loads_plugins:
            enable_flags(plugins)
        status: int = args.run(args)
        return status


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``parse_args(argv).run(args)`` runs one, unless ``run`` is None."""
    parser = Parser(prog="btcchat", description=DESCRIPTION, **RAW)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    parser.set_defaults(run=None, parser=parser, loads_plugins=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from btcchat import __version__

        print(f"btcchat {__version__}")
        parser.exit()


class _Stderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(f"btcchat: {self.format(record)}", file=sys.stderr)


@contextmanager
def _notes(verbose: bool, many: bool) -> Iterator[None]:
    """Send the package's log to stderr, and silence the libraries that it uses.

    How images were changed (stretched, of different size) is reported even without -v, but not for a list of pairs.
    """
    package, data = logging.getLogger("btcchat"), logging.getLogger("btcchat.media")
    handler = _Stderr()
    handler.setFormatter(Formatter())
    package.addHandler(handler)
    package.setLevel(logging.INFO if verbose else logging.WARNING)
    data.setLevel(logging.NOTSET if many else logging.INFO)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # its errors are raised as well
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    options = [] if sys.warnoptions else ["ignore::FutureWarning"]  # -W of the processes that a command spawns
    sys.warnoptions += options
    try:
        with warnings.catch_warnings():
            # transformers 4.36.2 on a recent torch: _register_pytree_node, resume_download
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        del sys.warnoptions[len(sys.warnoptions) - len(options) :]
        package.removeHandler(handler)
        package.setLevel(logging.NOTSET)
        data.setLevel(logging.NOTSET)
