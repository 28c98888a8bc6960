"""Ctrl-C and SIGTERM end a command cleanly: it closes files, ends its children and removes temporary folders."""

import functools
import signal
import threading
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from btcchat.console.messages import say

Command = TypeVar("Command", bound=Callable[..., int])
INTERRUPTED, TERMINATED = 130, 143  # exit codes: 128 and the number of the signal


class Terminated(SystemExit):
    """Raised on SIGTERM. Like KeyboardInterrupt, it is not caught by ``except Exception``."""


def clean_exit(main: Command) -> Command:
    """Decorate ``main`` to clean up (``with``, ``finally``) after Ctrl-C and SIGTERM, and then return 130 or 143.

    A command that can say what is done so far raises KeyboardInterrupt again with one line of text, which is printed.
    """

    @functools.wraps(main)
    def run(*args: Any, **kwargs: Any) -> int:
        before = None
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
            before = signal.signal(signal.SIGTERM, raise_terminated)
        try:
            return main(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            say(str(interrupt) or "interrupted")
            return INTERRUPTED
        except Terminated:
            say("terminated")
            return TERMINATED
        finally:
            if before is not None:
                signal.signal(signal.SIGTERM, before)

    return run  # type: ignore[return-value]


def raise_terminated(*_: Any) -> NoReturn:
    """The handler of SIGTERM. It ignores further ones, so that they do not interrupt the clean-up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated(TERMINATED)
