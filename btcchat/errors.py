"""Errors a user can fix, and the look-up that names the choices."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class BTCChatError(ValueError):
    """A fault the user can fix. The message is one line: what was got, what was expected, the way out."""


def wrong_type(name: str, value: object, expected: str) -> TypeError:
    """The error of an argument ``name`` whose value is not of a type that is accepted."""
    return TypeError(f"{name} must be {expected}, not {type(value).__name__}")


def choose(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return ``table[name]``; an unknown name is an error that lists the choices and the nearest one."""
    if isinstance(name, str) and name in table:
        return table[name]
    raise BTCChatError(unknown(kind, name, table))


def unknown(kind: str, name: str, table: Iterable[str]) -> str:
    """What an error says of a name that is not in ``table``: the nearest one that is, and all choices."""
    near = difflib.get_close_matches(str(name), list(table), n=1, cutoff=0.5)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return f"unknown {kind} '{name}'{hint}; choose from {', '.join(sorted(table))}"


def listed(items: Sequence[str], noun: str) -> str:
    """``7 ids 'a', 'b', 'c', 'd', 'e' and 2 more``, for an error about several items."""
    shown = ", ".join(items[:5]) + (f" and {len(items) - 5} more" if len(items) > 5 else "")
    return f"{len(items)} {noun}{'s' * (len(items) != 1)} {shown}"
