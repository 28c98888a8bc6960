"""Questions about what is not in the drawn world, and the one honest answer to them."""

from functools import lru_cache
from typing import TypedDict

import yaml
from numpy.random import Generator

from btcchat.synthetic.phrasing import Split, filled
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
    things: dict[Split, str]
    about_things: dict[Split, list[str]]
    about_known: dict[Split, list[str]]
    general: dict[Split, list[str]]


@lru_cache(maxsize=1)
def unknown() -> Unknown:
    found: Unknown = yaml.safe_load(read_asset("unknown.yaml"))
    return found


@lru_cache(maxsize=2)
def unknown_things(split: Split) -> list[tuple[str, str]]:
    """(singular, plural) of things that no scene shows."""
    listed = [entry.strip().partition(",") for entry in unknown()["things"][split].split(";")]
    return [(singular, plural or f"{singular}s") for singular, _, plural in listed]


def unknown_question(rng: Generator, split: Split = "train") -> tuple[str, str]:
    """(question, answer): half of them about things, the others about properties and about anything else."""
    form = rng.random()
    if form < 0.3:
        return pick(rng, unknown()["general"][split]), unknown()["answer"]
    if form < 0.5:
        kind = pick(rng, KINDS)
        many = kind in ("house", "trees")
        slots = {
            "known": f"the {words()['many' if many else 'one'][kind]}",
            "be": "are" if many else "is",
            "was": "were" if many else "was",
        }
        return filled(pick(rng, unknown()["about_known"][split]), slots), unknown()["answer"]
    singular, plural = pick(rng, unknown_things(split))
    if split == "train" and form > 0.9:  # made up, so that whatever is not known is known to be unknown
        singular = "".join(pick(rng, SYLLABLES) for _ in range(int(rng.integers(2, 4))))
        plural = f"{singular}s"
    slots = {"x": singular, "xs": plural, "a": "an" if singular[0] in "aeiou" else "a"}
    return filled(pick(rng, unknown()["about_things"][split]), slots), unknown()["answer"]
