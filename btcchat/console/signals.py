"""Ctrl-C and SIGTERM end a command in order: files are closed, children and temporary folders are gone."""

import functools
import signal
import threading
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from btcchat.console.messages import say

Command = TypeVar("Command", bound=Callable[..., int])
INTERRUPTED, TERMINATED = 130, 143  # exit codes: 128 and the number of the signal


class Terminated(SystemExit):
    """SIGTERM has come. It passes every handler of errors, as KeyboardInterrupt does."""


def ends_in_order(main: Command) -> Command:
    """``main``, whose blocks are left one by one after Ctrl-C and after SIGTERM too; it then returns 130 or 143."""

    @functools.wraps(main)
    def run(*args: Any, **kwargs: Any) -> int:
        before = None
        if threading.current_thread() is threading.main_thread():  # no other may set a handler
            before = signal.signal(signal.SIGTERM, raise_terminated)
        try:
            return main(*args, **kwargs)
        except KeyboardInterrupt:
            say("interrupted")
            return INTERRUPTED
        except Terminated:
            say("terminated")
            return TERMINATED
        finally:
            if before is not None:
                signal.signal(signal.SIGTERM, before)

    return run  # type: ignore[return-value]


def raise_terminated(*_: Any) -> NoReturn:
    """The handler of SIGTERM. The blocks that are left now are left once: a second signal changes nothing."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated(TERMINATED)
