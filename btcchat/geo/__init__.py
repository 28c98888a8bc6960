"""Georeferenced scenes: turn two or more rasters into captions and change maps with coordinates (docs/scenes.md)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers
    from btcchat.geo.api import TileResult, scenes

__all__ = ["TileResult", "scenes"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'btcchat.geo' has no attribute '{name}'")
    from btcchat.geo import api

    return getattr(api, name)
