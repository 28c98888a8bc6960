"""Log notes on how images are read once per process, not for each of ten thousand files."""

import logging

_said: set[str] = set()


def once(log: logging.Logger, note: str, example: str, level: int = logging.INFO) -> None:
    """Log ``example: note`` unless the same note has been logged; example: the first file that it applies to."""
    if note not in _said:
        _said.add(note)
        log.log(level, "%s: %s", example, note)


def forget() -> None:
    """Log all notes again; for tests."""
    _said.clear()
