"""The words that captions, questions and answers are made of, and how one of them is drawn."""

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import TypedDict, TypeVar

import numpy as np
import yaml

T = TypeVar("T")

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


class Words(TypedDict):
    """assets/synthetic/words.yaml, which says what each table is."""

    nouns: dict[str, list[tuple[str | None, str | None]]]  # kind -> (singular, plural)
    participles: dict[str, dict[str, list[str]]]  # kind -> action -> "built", "put up", ...
    verbs: dict[str, list[tuple[str, str, str]]]  # come, go, grow -> (singular, plural, perfect)
    phrases: dict[str, list[str]]
    one: dict[str, str]  # kind -> singular
    many: dict[str, str]  # kind -> plural
    done: dict[str, dict[str, str]]  # kind -> action -> participle
    at: dict[str, str]  # place -> "in the top left"
    requests: dict[str, list[str]]


@lru_cache(maxsize=1)
def words() -> Words:
    found: Words = yaml.safe_load(read_asset("words.yaml"))
    return found


def sentences() -> list[str]:
    """Ordinary sentences of remote sensing, so that the tiny tokenizer knows more words than the captions use."""
    return read_asset("sentences.txt").splitlines()


def read_asset(name: str) -> str:
    """A text of assets/synthetic."""
    return (files("btcchat") / "assets" / "synthetic" / name).read_text(encoding="utf-8")


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def phrase(rng: np.random.Generator, name: str, /, **values: str) -> str:
    """Draw one of the phrases called ``name`` and fill in its ``{braces}``."""
    return pick(rng, words()["phrases"][name]).format(**values)
