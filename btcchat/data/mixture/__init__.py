"""Mixtures of data sets: the known sets, what a mixture takes from them, and the order in which it is read."""

from btcchat.data.mixture.descriptions import known_sets, register
from btcchat.data.mixture.mixture import Mixture, build_datasets
from btcchat.data.mixture.terms import terms

__all__ = ["Mixture", "build_datasets", "known_sets", "register", "terms"]
