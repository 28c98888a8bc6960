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

MODULES = "BTCCHAT_PLUGINS"  # environment variable: the modules, a,b
FOLDERS = "BTCCHAT_PLUGIN_PATH"  # environment variable: the current folders of commands with --plugin
FLAG = "--plugin"

_loaded: dict[str, str] = {}  # module -> how it was enabled, in the order in which they were imported
_broken: dict[str, str] = {}  # module of an entry point -> why it cannot be loaded; it is tried once


@dataclass(frozen=True)
class Plugin:
    """An enabled plugin. ``adds``: kind of part -> names. ``error``: why it cannot be loaded."""

    module: str
    how: str  # FLAG, MODULES, "entry point" or "Python"
    version: str | None = None
    adds: dict[str, list[str]] = field(default_factory=dict)
    error: str | None = None


def enable(module: str) -> None:
    """Import the plugin ``module``, for this process and those that it starts.

    Raises BTCChatError, one line that names it, if it cannot be imported or registers a name that is in use.
    """
    if not isinstance(module, str):
        raise wrong_type("module", module, "the name of a Python module")
    _enable(module, "Python")
    _add_to(MODULES, module, ",")


def take_flags(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into the modules of its ``--plugin MODULE`` and its other words. Nothing is imported.

    Raises BTCChatError for a flag without a module.
    """
    modules, rest = [], list(argv)
    end = rest.index("--") if "--" in rest else len(rest)  # nothing after it is a flag
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
    """`enable` the modules of ``--plugin``. They may also be in the current folder, which is searched last."""
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
    """Import plugins until ``registry`` has ``name``: first those of the environment, then installed ones.

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
    """Import ``module`` and return True if it is an installed entry point. Raises BTCChatError if that fails."""
    from btcchat.plugins.installed import entry_points

    if not any(point.module == module for point in entry_points()):
        return False
    _enable(module, "entry point")
    return True


def is_loaded(module: str) -> bool:
    return module in _loaded


def enabled() -> list[Plugin]:
    """The enabled plugins and what each adds. They are imported; one that cannot be loaded has an ``error``."""
    from btcchat.plugins.installed import version

    broken = []
    for module in _in_environment():
        try:
            _enable(module, MODULES)
        except BTCChatError as error:
            broken.append(Plugin(module, MODULES, error=str(error)))
    return [Plugin(module, how, version(module), _adds(module)) for module, how in _loaded.items()] + broken


def without_parts() -> list[str]:
    """The modules that were imported as plugins and registered nothing."""
    return [module for module in _loaded if not _adds(module)]


def owner(origin: str) -> str:
    """The enabled plugin to which a row belongs: the module ``origin`` that registered it, or a package around it."""
    return next((module for module in _loaded if _within(origin, module)), origin)


def _within(origin: str, module: str) -> bool:
    return f"{origin}.".startswith(f"{module}.")


def _adds(module: str) -> dict[str, list[str]]:
    """Kind -> names of the rows of a plugin, also of those that another plugin added by importing it."""
    rows = {
        kind: [name for name in table if any(_within(origin, module) for origin in table.origins(name))]
        for kind, table in REGISTRIES.items()
    }
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
    """The modules that the environment enables. Their folders are added to sys.path."""
    modules = [name.strip() for name in os.environ.get(MODULES, "").split(",") if name.strip()]
    if modules:
        for folder in os.environ.get(FOLDERS, "").split(os.pathsep):
            _search(folder)
    return modules


def _search(folder: str) -> None:
    """Also look for modules in ``folder``, after all other places, so that a file there hides no installed module."""
    if folder and folder not in sys.path:
        sys.path.append(folder)


def _add_to(variable: str, value: str, separator: str) -> None:
    """Add a value to a list in the environment, which child processes inherit."""
    values = [one for one in os.environ.get(variable, "").split(separator) if one]
    if value not in values:
        os.environ[variable] = separator.join([*values, value])
