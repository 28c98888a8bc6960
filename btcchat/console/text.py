"""Text that a person types, whatever the locale."""

import os


def typed(text: str) -> str:
    """``text`` as it was meant: in an ASCII locale, Python reads UTF-8 as escapes of single bytes."""
    try:
        return os.fsencode(text).decode()
    except UnicodeError:
        return text
