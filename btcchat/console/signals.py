"""Ctrl-C and SIGTERM end a command cleanly: it closes files, ends its children and removes temporary folders."""

import functools
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from btcchat.console.messages import say

Command = TypeVar("Command", bound=Callable[..., int])
INTERRUPTED, TERMINATED = 130, 143  # exit codes: 128 and the number of the signal
AGAIN = 0.1  # seconds


class Terminated(SystemExit):
    """Raised on SIGTERM. Like KeyboardInterrupt, it is not caught by ``except Exception``."""


def clean_exit(main: Command) -> Command:
    """Decorate ``main`` to clean up (``with``, ``finally``) after Ctrl-C and SIGTERM, and then return 130 or 143.

    A command that can say what is done so far raises KeyboardInterrupt again with one line of text, which is printed.
    """

    @functools.wraps(main)
    def run(*args: Any, **kwargs: Any) -> int:
        before, report = None, sys.unraisablehook
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
            before = signal.signal(signal.SIGTERM, raise_terminated)
            sys.unraisablehook = functools.partial(_raise_again, report)
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
                sys.unraisablehook = report
                _stop_timer()
                signal.signal(signal.SIGTERM, before)

    return run  # type: ignore[return-value]


def raise_terminated(*_: Any) -> NoReturn:
    """The handler of SIGTERM. It ignores further ones, so that they do not interrupt the clean-up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated(TERMINATED)


def _stop_timer() -> None:
    """Stop the timer of `_raise_again`, and no other."""
    if hasattr(signal, "SIGALRM") and signal.getsignal(signal.SIGALRM) in (
        signal.default_int_handler,
        raise_terminated,
    ):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _raise_again(report: Callable[[Any], object], ignored: Any) -> None:
    """``sys.unraisablehook``, which raises KeyboardInterrupt and Terminated again a little later.

    Python ignores what is raised in ``__del__`` and around a fork. A training that ends and starts data workers is
    often there when a signal arrives.
    """
    caught = issubclass(ignored.exc_type, KeyboardInterrupt | Terminated)
    if caught and threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
        interrupted = issubclass(ignored.exc_type, KeyboardInterrupt)
        signal.signal(signal.SIGALRM, signal.default_int_handler if interrupted else raise_terminated)
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
    else:
        report(ignored)
