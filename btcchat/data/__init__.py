"""Records, mixtures, batches: what a model is trained on and evaluated with."""

from typing import Any

__all__ = ["register"]


def __getattr__(name: str) -> Any:
    if name != "register":
        raise AttributeError(f"module 'btcchat.data' has no attribute '{name}'")
    from btcchat.data.mixture.descriptions import register  # not above: records alone must not import mixtures

    return register
