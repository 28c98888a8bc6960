"""Lines on stderr with escaped control characters, so that the name of a file cannot control the terminal."""

import logging
import sys
from copy import copy

from btcchat.errors import printable


class Formatter(logging.Formatter):
    """Formats a log line, with control characters in its arguments escaped."""

    def format(self, record: logging.LogRecord) -> str:
        args = record.args
        if isinstance(args, tuple):
            record = copy(record)
            record.args = tuple(arg if isinstance(arg, int | float) else printable(str(arg)) for arg in args)
        return super().format(record)


def say(text: str) -> None:
    """Print on stderr, in one line, what the command did."""
    sys.stderr.write(f"btcchat: {printable(text)}\n")
    sys.stderr.flush()
