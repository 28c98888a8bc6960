"""Georeferenced scenes: two or more rasters in, captions and maps of change at their places out (docs/scenes.md)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers
    from btcchat.geo.api import TileResult, scenes

__all__ = ["TileResult", "scenes"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'btcchat.geo' has no attribute '{name}'")
    from btcchat.geo import api

    return getattr(api, name)
