"""Lines on stderr: whatever a file is called, its name cannot control the terminal."""

import logging
import sys
from copy import copy

from btcchat.errors import printable


class Formatter(logging.Formatter):
    """Writes the arguments of a log line with their control characters as escapes."""

    def format(self, record: logging.LogRecord) -> str:
        args = record.args
        if isinstance(args, tuple):
            record = copy(record)
            record.args = tuple(arg if isinstance(arg, int | float) else printable(str(arg)) for arg in args)
        return super().format(record)


def say(text: str) -> None:
    """What a command did, on stderr."""
    sys.stderr.write(f"btcchat: {printable(text)}\n")
    sys.stderr.flush()
