"""Parse a caption of a synthetic scene into changes, with a lexicon, to score predicted captions.

A caption is split into clauses at its links (and, while, ;). Each clause gives one change: its kind is the first noun
of the lexicon, its count the number word before the noun, its action the first verb of the lexicon ("new" means built
if there is no verb), and its place the first place phrase. A clause without a noun is skipped; one without an action or
a place has those of the clause before it. "X replaces Y" and "Y makes way for X" give two changes.
"""

import re

from btcchat.synthetic.words import NUMBERS

NOUNS = {
    "parking": r"parking lots?|parking areas?|parking|car parks?",
    "trees": r"(?:patch|group) of (?:trees|forest)|trees?|forests?|woods",
    "pond": r"ponds?|lakes?",
    "house": r"small buildings?|houses?|homes?",
    "building": r"buildings?|warehouses?|large roofs?",
    "road": r"roads?|streets?",
}
BUILT = (
    r"built|constructed|put up|added|erected|laid|planted|dug|created|paved|extended|enlarged|expanded|"
    r"appear\w*|comes? up|come up|grow\w*"
)
REMOVED = (
    r"demolished|torn (?:down|up)|pulled down|removed|taken away|cleared|cut (?:down|back)|felled|filled in|drained|"
    r"reduced|made smaller|disappear\w*|vanish\w*|gone|no longer"
)
PLACE = r"\b(?:(?P<v>top|upper|bottom|lower)(?: (?P<h>left|right))?|(?P<s>left|right)|(?P<c>center|middle))\b"
_NOUN = re.compile(r"\b(?:" + "|".join(f"(?P<{kind}>{words})" for kind, words in NOUNS.items()) + r")\b")
_REMOVED, _BUILT, _PLACE = re.compile(rf"\b(?:{REMOVED})\b"), re.compile(rf"\b(?:{BUILT})\b"), re.compile(PLACE)
_LINK = re.compile(r"\s+(?:,\s*)?(?:and(?: also)?|while|whereas|;)\s+|\s*;\s*")

Change = tuple[str, str | None, int | None, str | None]


def parse_caption(text: str) -> list[Change]:
    """Return the changes that a caption names, in its order, as ``(kind, action, count, place)``.

    kind is one of KINDS, action "built" | "removed", place one of PLACES (both of btcchat.synthetic); None if the text
    does not say. A caption that names no change gives []. Every caption of btcchat.synthetic is parsed exactly.
    """
    text = " ".join(text.lower().replace(".", " ").replace(",", " , ").split())
    changes: list[Change] = []
    action: str | None = None
    place: str | None = None
    for part in _LINK.split(text):
        nouns = list(_NOUN.finditer(part))
        if not nouns:
            continue
        place = _place(part) or place
        swap = _replaced(part, nouns)
        if swap is not None:
            built, removed = swap
            changes += [(*_thing(part, built, "built"), place), (*_thing(part, removed, "removed"), place)]
            continue
        action = _action(part) or action
        changes.append((*_thing(part, nouns[0], action), place))
    return changes


def _place(part: str) -> str | None:
    match = _PLACE.search(part)
    if match is None:
        return None
    if match["c"]:
        return "center"
    if match["s"]:
        return match["s"]
    vertical = {"upper": "top", "lower": "bottom"}.get(match["v"], match["v"])
    return f"{vertical} {match['h']}" if match["h"] else vertical


def _action(part: str) -> str | None:
    found = [(m.start(), name) for name, rule in (("removed", _REMOVED), ("built", _BUILT)) if (m := rule.search(part))]
    if found:
        return min(found)[1]
    return "built" if re.search(r"\bnew\b", part) else None


def _thing(part: str, noun: re.Match[str], action: str | None) -> tuple[str, str | None, int | None]:
    kind = noun.lastgroup or ""  # every branch of the pattern is a named group
    if kind == "house" and "large" in part[: noun.start()].split()[-1:]:
        kind = "building"
    for word in reversed(part[: noun.start()].split()[-4:]):
        if word in NUMBERS[1:]:
            return kind, action, NUMBERS.index(word)
        if word in ("a", "the", "single", "some"):
            break
    singular = kind == "trees" or not noun.group().endswith("s")
    return kind, action, 1 if singular else None


def _replaced(part: str, nouns: list[re.Match[str]]) -> tuple[re.Match[str], re.Match[str]] | None:
    """(what is built, what is removed) if the clause says that one takes the other's place."""
    if len(nouns) < 2:
        return None
    if re.search(r"\bmakes? way for\b|\breplaced by\b", part):
        return nouns[1], nouns[0]
    if re.search(r"\breplaces?\b", part):
        return nouns[0], nouns[1]
    return None
