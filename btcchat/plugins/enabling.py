"""Which plugins are enabled, how, and what each adds; flags, environment variables and entry points become imports."""

import logging
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from btcchat.errors import BTCChatError, wrong_type
from btcchat.plugins.load import check_name, load
from btcchat.registry import REGISTRIES, Registry

logger = logging.getLogger(__name__)

MODULES = "BTCCHAT_PLUGINS"  # environment: a,b
FOLDERS = "BTCCHAT_PLUGIN_PATH"  # environment: where the current folder was when --plugin was given
FLAG = "--plugin"

_loaded: dict[str, str] = {}  # module -> how it was enabled, in the order in which they were imported
_broken: dict[str, str] = {}  # module of an entry point -> why it cannot be loaded; it is tried once


@dataclass(frozen=True)
class Plugin:
    """An enabled plugin. ``adds`` is kind of part -> names; ``error`` says why it cannot be loaded."""

    module: str
    how: str  # FLAG, MODULES, "entry point" or "Python"
    version: str | None = None
    adds: dict[str, list[str]] = field(default_factory=dict)
    error: str | None = None


def enable(module: str) -> None:
    """Import the plugin ``module``, for this process and those that it starts.

    Raises BTCChatError, one line that names it, where it cannot be imported or registers a name that is taken.
    """
    if not isinstance(module, str):
        raise wrong_type("module", module, "the name of a Python module")
    _enable(module, "Python")
    _add_to(MODULES, module, ",")


def take_flags(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(modules, the other words) of a command line with any number of ``--plugin MODULE``. Nothing is imported."""
    modules, rest = [], list(argv)
    end = rest.index("--") if "--" in rest else len(rest)  # what follows are not flags
    rest, after = rest[:end], rest[end:]
    words, others = iter(rest), []
    for word in words:
        if word == FLAG or word.startswith(f"{FLAG}="):
            module = next(words, "") if word == FLAG else word.partition("=")[2]
            if not module or module.startswith("-"):
                raise BTCChatError(f"{FLAG} needs the name of a Python module, such as {FLAG} my_package")
            modules.append(module)
        else:
            others.append(word)
    return modules, others + after


def enable_flags(modules: Iterable[str]) -> None:
    """`enable` for modules of ``--plugin``, which may also be in the current folder: it is searched last."""
    for module in modules:
        here = os.getcwd()
        _add_to(FOLDERS, here, os.pathsep)
        _search(here)
        _enable(module, FLAG)
        _add_to(MODULES, module, ",")


def load_enabled() -> None:
    """Import what the environment enables. Raises BTCChatError for a plugin that cannot be loaded."""
    for module in _in_environment():
        _enable(module, MODULES)


def look_for(name: str, registry: Registry[Any]) -> None:
    """Import plugins until ``registry`` has ``name``: those of the environment, then those that are installed.

    Raises BTCChatError for a plugin of the environment that cannot be loaded; an installed one gives a warning.
    """
    load_enabled()
    if name in registry:
        return
    from btcchat.plugins.installed import entry_points

    for point in sorted(entry_points(), key=lambda point: point.name != name):
        if point.module in _loaded or point.module in _broken:
            continue
        try:
            _enable(point.module, "entry point")
        except BTCChatError as error:
            _broken[point.module] = str(error)
            logger.warning("%s (entry point '%s' of %s)", error, point.name, point.package)
        if name in registry:
            return


def load_installed(module: str) -> bool:
    """Import ``module`` if it is an installed entry point; whether it is one. Raises BTCChatError if it cannot be."""
    from btcchat.plugins.installed import entry_points

    if not any(point.module == module for point in entry_points()):
        return False
    _enable(module, "entry point")
    return True


def is_loaded(module: str) -> bool:
    return module in _loaded


def enabled() -> list[Plugin]:
    """The enabled plugins and what each adds. They are imported; one that cannot be is listed with its ``error``."""
    from btcchat.plugins.installed import version

    broken = []
    for module in _in_environment():
        try:
            _enable(module, MODULES)
        except BTCChatError as error:
            broken.append(Plugin(module, MODULES, error=str(error)))
    return [Plugin(module, how, version(module), _adds(module)) for module, how in _loaded.items()] + broken


def owner(origin: str) -> str:
    """The enabled plugin a row belongs to, by the module that registered it: that module, or a package it is in."""
    return next((module for module in _loaded if f"{origin}.".startswith(f"{module}.")), origin)


def _adds(module: str) -> dict[str, list[str]]:
    """Kind -> names of the rows of a plugin."""
    rows = {kind: [n for n in table if owner(table.origin(n) or "") == module] for kind, table in REGISTRIES.items()}
    return {kind: names for kind, names in sorted(rows.items()) if names}


def _enable(module: str, how: str) -> None:
    if module in _loaded:
        return
    check_name(module)
    _loaded[module] = how  # before the import: its own body may look for a part
    try:
        load(module)
    except BaseException:
        del _loaded[module]
        raise


def _in_environment() -> list[str]:
    """The modules that the environment enables; the folders they may be in become importable."""
    modules = [name.strip() for name in os.environ.get(MODULES, "").split(",") if name.strip()]
    if modules:
        for folder in os.environ.get(FOLDERS, "").split(os.pathsep):
            _search(folder)
    return modules


def _search(folder: str) -> None:
    """Look for modules in ``folder`` too, after all other places: a file there hides no installed module."""
    if folder and folder not in sys.path:
        sys.path.append(folder)


def _add_to(variable: str, value: str, separator: str) -> None:
    """Add a value to a list in the environment, which child processes inherit."""
    values = [one for one in os.environ.get(variable, "").split(separator) if one]
    if value not in values:
        os.environ[variable] = separator.join([*values, value])
