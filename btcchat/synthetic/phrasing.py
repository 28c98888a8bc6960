"""A question as a fact and its many wordings: some are trained on, others only tested."""

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import chain, product
from typing import Literal, NamedTuple

import yaml
from numpy.random import Generator

from btcchat.synthetic.words import pick, read_asset

Split = Literal["train", "test", "tokenizer"]
SPLITS: dict[Split, tuple[str, ...]] = {"train": ("train", "later"), "test": ("test",), "tokenizer": ("train",)}


class Question(NamedTuple):
    """What is asked and its one answer; the words come from ``wordings()[kind]``, filled in with ``slots``."""

    kind: str
    answer: str
    slots: Mapping[str, str] = {}

    def worded(self, rng: Generator, split: Split = "train") -> str:
        """One of its wordings, drawn."""
        return filled(pick(rng, pick(rng, wordings()[self.kind][split])), self.slots)

    def all_worded(self, split: Split = "train") -> list[str]:
        """All of its wordings, in the order of the file."""
        return [filled(text, self.slots) for text in chain.from_iterable(wordings()[self.kind][split])]


@lru_cache(maxsize=1)
def wordings() -> dict[str, dict[Split, list[list[str]]]]:
    """assets/synthetic/questions.yaml: kind -> split -> entries, each with the wordings that it stands for."""
    found: dict[str, dict[str, list[str]]] = yaml.safe_load(read_asset("questions.yaml"))
    return {
        kind: {split: [expanded(one) for key in keys for one in table.get(key, [])] for split, keys in SPLITS.items()}
        for kind, table in found.items()
    }


def expanded(entry: str) -> list[str]:
    """ "(Is|Was) it" -> ["Is it", "Was it"]: every combination, in order."""
    pieces = [piece.split("|") for piece in re.split(r"[()]", entry)]  # text and choices in turn
    return ["".join(parts) for parts in product(*pieces)]


def filled(text: str, slots: Mapping[str, str]) -> str:
    """``text`` with its {slots}; {Was} is the slot ``was`` with a capital."""
    return text.format(**slots, **{name.capitalize(): value[:1].upper() + value[1:] for name, value in slots.items()})


def mistyped(rng: Generator, text: str) -> str:
    """The text with one slip of the keyboard in a word of five letters or more; as it is if it has none."""
    words = text.split(" ")
    long = [index for index, word in enumerate(words) if len(word) >= 5 and word.isalpha()]
    if not long:
        return text
    index = pick(rng, long)
    word = words[index]
    at = int(rng.integers(1, len(word) - 2))  # the first letter and the last are right, as in most slips
    slips = (
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],  # two letters exchanged
        word[:at] + word[at + 1 :],  # one left out
        word[:at] + word[at] + word[at:],  # one twice
    )
    words[index] = pick(rng, slips)
    return " ".join(words)


def typed(rng: Generator, text: str, split: Split = "train") -> str:
    """As people type: now and then with words around it, without the capital or the question mark, or with a slip."""
    if rng.random() < 0.15:
        text = pick(rng, pick(rng, wordings()["around"][split])).format(q=text, q_small=text[0].lower() + text[1:])
    if rng.random() < 0.1:
        text = text[0].lower() + text[1:]
    if rng.random() < 0.05:
        text = text.rstrip("?")
    return mistyped(rng, text) if rng.random() < 0.12 else text
