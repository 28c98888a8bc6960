"""Registries: a table of named parts for each kind, which plugins can extend, and building a part from its config.

Each table is next to its parts (`btcchat.change_encoder.CHANGE_ENCODERS`, ...).
"""

import inspect
import json
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, is_dataclass
from typing import Any, Generic, TypeVar

from btcchat.contract.construct import construct
from btcchat.errors import BTCChatError, unknown

T = TypeVar("T")

OURS = "btcchat"  # the origin of the package's own rows
MAIN = "__main__"  # the origin of rows from a script or a notebook
REGISTRIES: dict[str, "Registry[Any]"] = {}  # by kind

# The plugin that is being imported: rows added meanwhile are its own.
loading: ContextVar[str | None] = ContextVar("loading", default=None)


@dataclass(frozen=True)
class Row(Generic[T]):
    """A part, the plugin or module that registered it, and the module whose code did."""

    part: T
    origin: str
    code: str


class Registry(MutableMapping[str, T]):
    """Name -> part. ``registry[name] = part`` adds a row; a name in use is an error that names both origins.

    If the same module defines the class or function again (a notebook cell that runs twice, importlib.reload), its row
    is replaced.
    """

    def __init__(self, kind: str, rows: Mapping[str, T]) -> None:
        self.kind = kind
        self._rows = {name: Row(part, OURS, OURS) for name, part in rows.items()}
        REGISTRIES[kind] = self

    def __getitem__(self, name: str) -> T:
        return self._rows[name].part

    def __setitem__(self, name: str, part: T) -> None:
        code, there = _caller(), self._rows.get(name)
        origin = loading.get() or code
        if there is not None and not (there.origin == origin and _names(there.part) == _names(part) != []):
            raise BTCChatError(
                f"{self.kind} '{name}' is registered already (by {there.origin}); {origin} must use another name"
            )
        self._rows[name] = Row(part, origin, code)

    def __delitem__(self, name: str) -> None:
        del self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def origin(self, name: str) -> str | None:
        """The module that registered ``name``: a plugin, `OURS` or `MAIN`; None if it is not in the table."""
        return self._rows[name].origin if name in self._rows else None

    def origins(self, name: str) -> tuple[str, str]:
        """`origin` of a row, and the module whose code added it: another one if a plugin imports a second plugin."""
        return self._rows[name].origin, self._rows[name].code

    def find(self, name: str) -> T:
        """The part ``name``; it may be of an enabled or installed plugin that is not imported yet.

        Raises BTCChatError for an unknown name, and for an enabled plugin that cannot be loaded.
        """
        if name not in self:
            from btcchat.plugins import look_for, without_parts

            look_for(name, self)
            if name not in self:
                way_out = "or enable the plugin that adds it: --plugin MODULE"
                if empty := without_parts():
                    way_out += f" (plugins that were imported and registered nothing: {', '.join(empty)})"
                raise BTCChatError(f"{unknown(self.kind, name, self)}, {way_out}")
        return self[name]


def build(table: Registry[Any], name: str, options: Mapping[str, Any], **sizes: Any) -> Any:
    """Build the part ``name`` of a table with its sizes and options. See `build_part`."""
    return build_part(table.kind, name, table.find(name), options, **sizes)


def build_part(kind: str, name: str, part: Callable[..., Any], options: Mapping[str, Any], **sizes: Any) -> Any:
    """Return ``part(**sizes, **options)``; an option that the part does not have is an error that lists its options.

    A part from outside the package that cannot be built is an error too: see `construct`.
    """
    parameters = inspect.signature(part).parameters
    known = sorted(set(parameters) - set(sizes))
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for option in options:
        if option not in known and not takes_any:
            choices = f"choose from {', '.join(known)}" if known else "it has none"
            raise BTCChatError(f"unknown option '{option}' of {kind} '{name}'; {choices}")
    return construct(kind, name, part, **sizes, **options)


def defaults(part: Callable[..., Any], sizes: Collection[str]) -> dict[str, Any]:
    """Option -> its default, for the options of a part whose default is the same after a round trip through JSON.

    sizes: the arguments that are not options. A default such as a class or a tuple cannot be stored in a config.json.
    """
    values = {name: one.default for name, one in inspect.signature(part).parameters.items() if name not in sizes}
    return {name: value for name, value in values.items() if _is_json(value)}  # Parameter.empty is not


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False


def _names(part: object) -> list[tuple[str, str]]:
    """Module and name of the classes and functions in a part."""
    if isinstance(part, tuple):  # a language model's classes, a text preset
        members = list(part)
    elif is_dataclass(part) and not isinstance(part, type):  # a prompt template
        members = list(vars(part).values())
    else:
        members = [part]
    return [(one.__module__, one.__qualname__) for one in members if hasattr(one, "__qualname__")]


def _caller() -> str:
    """The module whose code is adding a row."""
    frame = inspect.currentframe()
    while frame is not None:
        module = str(frame.f_globals.get("__name__", MAIN))  # code given to exec() may have no name
        if module not in (__name__, "collections.abc", "_collections_abc"):  # registry.update(...)
            return module
        frame = frame.f_back
    return MAIN
