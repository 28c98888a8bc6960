"""Packages that only some tasks need, and an installation may lack."""

import importlib.util

from btcchat.errors import BTCChatError


def require(package: str, purpose: str, install: str = "'btcchat[train]'") -> None:
    """Raise BTCChatError where ``package`` is not installed. It imports nothing, so it is cheap before large work."""
    try:
        missing = importlib.util.find_spec(package) is None
    except ValueError:  # its place in sys.modules is taken by something else
        missing = True
    if missing:
        raise BTCChatError(
            f"{purpose} needs the package {package}, which is not installed; install it with: pip install {install}"
        )
