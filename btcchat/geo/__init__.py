"""Georeferenced scenes: two or more rasters in, captions and maps of change at their places out (docs/scenes.md)."""
