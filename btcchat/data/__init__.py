"""Images and video in, records, mixtures, batches, synthetic scenes."""

from btcchat.data.descriptions import register

__all__ = ["register"]
