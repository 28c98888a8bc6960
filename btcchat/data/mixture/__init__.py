"""Mixtures of data sets: what is known, what a mixture takes, in which order it is read."""

from btcchat.data.mixture.descriptions import known_sets, register
from btcchat.data.mixture.mixture import Mixture, build_datasets
from btcchat.data.mixture.terms import terms

__all__ = ["Mixture", "build_datasets", "known_sets", "register", "terms"]
