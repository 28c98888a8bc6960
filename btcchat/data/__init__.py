"""Records, mixtures and batches: the data that a model is trained and evaluated on."""

from typing import Any

__all__ = ["register"]


def __getattr__(name: str) -> Any:
    if name != "register":
        raise AttributeError(f"module 'btcchat.data' has no attribute '{name}'")
    from btcchat.data.mixture.descriptions import register  # imported late: records alone must not import mixtures

    return register
