"""Packages that only some tasks need, and that may not be installed."""

import importlib.util

from btcchat.errors import BTCChatError


def require(package: str, purpose: str, install: str = "'btcchat[train]'") -> None:
    """Raise BTCChatError if ``package`` is not installed. Imports nothing, so it is cheap to call before long work."""
    try:
        missing = importlib.util.find_spec(package) is None
    except ValueError:  # something else took its place in sys.modules
        missing = True
    if missing:
        raise BTCChatError(
            f"{purpose} needs the package {package}, which is not installed; install it with: pip install {install}"
        )
