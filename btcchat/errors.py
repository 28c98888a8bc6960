"""Errors that a user can fix, and a look-up whose error lists the choices."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

LONGEST = 300  # characters of a message
# C0 and C1 (including tab and newline), line separators, marks that change the text direction, surrogates.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


class BTCChatError(ValueError):
    """An error that the user can fix. The message is one line: what was found, what was expected, what to do.

    ``str(error)`` is always made a `one_line`; ``args`` has the original message.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


def one_line(text: str) -> str:
    """A message of at most LONGEST characters on one line; a longer one is cut in the middle: the way out is last."""
    text = printable(re.sub(r"\s*\n\s*", " ", text.strip()))
    end = LONGEST // 3
    return text if len(text) <= LONGEST else f"{text[: LONGEST - end - 3]}...{text[-end:]}"


def printable(text: str) -> str:
    """``text`` with control characters escaped: those in a file name must not reach a terminal."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def not_utf8(name: str, error: UnicodeDecodeError, form: str = "UTF-8") -> BTCChatError:
    """The error for the file ``name``. It quotes the place, as the error's position counts from the last block read."""
    near = repr(bytes(error.object[max(error.start - 12, 0) : error.end + 12]))[1:]
    return BTCChatError(f"{name}: not UTF-8 near {near}; save it as {form}")


def wrong_type(name: str, value: object, expected: str) -> TypeError:
    """The error for an argument ``name`` whose value has a wrong type."""
    return TypeError(f"{name} must be {expected}, not {type(value).__name__}")


def choose(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return ``table[name]``; an unknown name is an error that lists the choices and the nearest one."""
    if isinstance(name, str) and name in table:
        return table[name]
    raise BTCChatError(unknown(kind, name, table))


def unknown(kind: str, name: str, table: Iterable[str]) -> str:
    """The message for a name that is not in ``table``, with the nearest name and all choices."""
    import difflib  # imported here: it takes a twentieth of the time of `btcchat --help`

    near = difflib.get_close_matches(str(name), list(table), n=1, cutoff=0.5)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return f"unknown {kind} '{name}'{hint}; choose from {', '.join(sorted(table))}"


def number(value: object) -> str:
    """A value for a message, with whole floats as they are typed: 2, not 2.0."""
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def listed(items: Sequence[str], noun: str) -> str:
    """``7 ids 'a', 'b', 'c', 'd', 'e' and 2 more``, for an error about several items."""
    shown = ", ".join(items[:5]) + (f" and {len(items) - 5} more" if len(items) > 5 else "")
    return f"{len(items)} {noun}{'s' * (len(items) != 1)} {shown}"
