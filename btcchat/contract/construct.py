"""Build a part that may be a plugin's; if that fails, the error names the part and its class."""

import inspect
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from btcchat.errors import BTCChatError

# Files in which an error is not looked for: those of torch and this package, and first those of any library too.
THESE = ("<frozen ", f"{os.sep}importlib{os.sep}", f"{os.sep}torch{os.sep}", f"{Path(__file__).parents[1]}{os.sep}")
LIBRARIES = (*THESE, f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def is_ours(part: Any) -> bool:
    """Whether a class is defined in this package. Any other is checked against its contract."""
    return str(getattr(part, "__module__", "")).split(".")[0] == "btcchat"


def class_name(part: Any) -> str:
    return f"{getattr(part, '__module__', '?')}.{getattr(part, '__qualname__', part)}"


def label(kind: str, name: str, part: Any) -> str:
    """``change encoder 'mine' (my_package.MyEncoder)``."""
    return f"{kind} '{name}' ({class_name(part)})"


def construct(kind: str, name: str, part: Callable[..., Any], *positional: Any, **given: Any) -> Any:
    """``part(*positional, **given)``.

    Raises BTCChatError if a part from outside the package does not take these arguments, or if its constructor fails.
    """
    if is_ours(part):
        return part(*positional, **given)
    called = label(kind, name, part)
    signature = inspect.signature(part)
    try:
        signature.bind(*positional, **given)
    except TypeError as error:
        arguments = ", ".join([*("config" for _ in positional), *(f"{key}=" for key in given)])
        raise BTCChatError(
            f"{called} cannot be built: its constructor takes {signature}, expected ({arguments}); {error}"
        ) from error
    try:
        return part(*positional, **given)
    except BTCChatError:
        raise
    except Exception as error:
        raise BTCChatError(f"{called} cannot be built: its constructor raised {brief(error)}") from error


def refuses(error: BTCChatError) -> bool:
    """Whether a constructor refused its arguments with a message, in a ValueError, an assertion or the like."""
    cause = error.__cause__
    return cause is None or (isinstance(cause, (ValueError, AssertionError, NotImplementedError)) and bool(str(cause)))


def brief(error: BaseException) -> str:
    """The error in one line: its class, its message, and the line of the part's own code that it comes from."""
    message = " ".join(str(error).split())
    shown = message if len(message) <= 240 else message[:240] + " ..."
    return f"{type(error).__name__}: {shown}{_place(error)}"


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    for excluded in (LIBRARIES, THESE):
        own = [frame for frame in frames if not any(folder in frame.filename for folder in excluded)]
        if own:
            return f" ({Path(own[-1].filename).name} line {own[-1].lineno})"
    return ""
