"""The entry points of installed plugins, and versions. Nothing is imported to list them."""

import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata

from btcchat.registry import MAIN

GROUP = "btcchat.plugins"


@dataclass(frozen=True)
class EntryPoint:
    """An installed package's plugin: the entry point's name, the module that is its value, the package."""

    name: str
    module: str
    package: str
    version: str


def entry_points() -> list[EntryPoint]:
    """The entry points in the group `GROUP`."""
    found = metadata.entry_points(group=GROUP)
    return [EntryPoint(p.name, p.value, p.dist.name, p.dist.version) for p in found if p.dist is not None]


def version(module: str) -> str | None:
    """The version of the package that a module is installed with, else its ``__version__``, else None."""
    if module == MAIN:
        return None
    for point in entry_points():
        if point.module == module:
            return point.version
    package = module.partition(".")[0]
    if package in _packages():
        return metadata.version(_packages()[package][0])
    names = (getattr(sys.modules.get(name), "__version__", None) for name in (module, package))
    return next((str(name) for name in names if name is not None), None)


@cache
def _packages() -> dict[str, list[str]]:
    """Top-level package -> the distributions that provide it; takes a quarter of a second."""
    return dict(metadata.packages_distributions())
