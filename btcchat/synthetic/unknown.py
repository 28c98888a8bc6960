"""Questions about what is not in the drawn world, and the one honest answer to them."""

from functools import lru_cache
from typing import Literal, TypedDict

import yaml
from numpy.random import Generator

from btcchat.synthetic.phrasing import SPLITS, Split, expanded, filled
from btcchat.synthetic.scene import KINDS
from btcchat.synthetic.words import pick, read_asset, words

SYLLABLES = (
    "ba",
    "cro",
    "dun",
    "fel",
    "gri",
    "hop",
    "jat",
    "kel",
    "lum",
    "mor",
    "nip",
    "plo",
    "quer",
    "sti",
    "vam",
    "zog",
)


class Unknown(TypedDict):
    """assets/synthetic/unknown.yaml, which says what each table is."""

    answer: str
    things: dict[str, str]
    about_things: dict[str, list[str]]
    about_known: dict[str, list[str]]
    general: dict[str, list[str]]


@lru_cache(maxsize=1)
def unknown() -> Unknown:
    found: Unknown = yaml.safe_load(read_asset("unknown.yaml"))
    return found


@lru_cache
def unknown_things(split: Split) -> list[tuple[str, str]]:
    """(singular, plural) of things that no scene shows."""
    table = unknown()["things"]
    listed = [entry.strip().partition(",") for key in SPLITS[split] for entry in table[key].split(";")]
    return [(singular, plural or f"{singular}s") for singular, _, plural in listed]


@lru_cache
def unknown_wordings(table: Literal["about_things", "about_known", "general"], split: Split) -> list[list[str]]:
    """The entries of a table, each with the wordings that it stands for."""
    return [expanded(entry) for key in SPLITS[split] for entry in unknown()[table][key]]


def unknown_question(rng: Generator, split: Split = "train") -> tuple[str, str]:
    """(question, answer): half of them about things, the others about properties and about anything else."""
    answer = unknown()["answer"]
    form = rng.random()
    if form < 0.3:
        return _wording(rng, "general", split), answer
    if form < 0.5:
        kind = pick(rng, KINDS)
        many = kind in ("house", "trees")
        slots = {
            "known": f"the {words()['many' if many else 'one'][kind]}",
            "be": "are" if many else "is",
            "was": "were" if many else "was",
        }
        return filled(_wording(rng, "about_known", split), slots), answer
    singular, plural = pick(rng, unknown_things(split))
    if split != "test" and form > 0.9:  # made up, so that whatever is not known is known to be unknown
        singular = "".join(pick(rng, SYLLABLES) for _ in range(int(rng.integers(2, 4))))
        plural = f"{singular}s"
    slots = {"x": singular, "xs": plural, "a": "an" if singular[0] in "aeiou" else "a"}
    return filled(_wording(rng, "about_things", split), slots), answer


def _wording(rng: Generator, table: Literal["about_things", "about_known", "general"], split: Split) -> str:
    entry = pick(rng, unknown_wordings(table, split))
    return entry[0] if len(entry) == 1 else pick(rng, entry)
