"""Extract the claims of a change caption with a small lexicon, and compare them with the claims of its references.

Four kinds of claims, each a set for a caption ("Two houses are built along the road at the top left.") :

    objects      types of things that are mentioned, changed or not      building, road
    direction    a type with "appears" or "disappears"                   (building, appears)
    counts       a type with a number, "some" or "many"                  (building, 2)
    places       parts of the image; beside a road                       top, left, by the road

Precision is the share of claims in the predictions that at least one reference of the pair makes. Recall is the share
of claims in the references, each counted separately, that the prediction makes; references differ, so 100 cannot be
reached (docs/small.md gives the scores of people). A caption that says that nothing changed makes no claim.

Direction is read from word order. Things before a verb are its subject; "X replaces Y" and "Y turns into X" say that X
appears and Y disappears; a thing after a preposition (along the road) is a place and does not count as changed; things
after the last verb share it ("a road is built and some houses").
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypedDict

from btcchat.data.changed import says_no_change
from btcchat.eval.captions.lexicon import APPEARS, DISAPPEARS, NUMBERS, OBJECTS, PLACED, PLACES, VERBS

KINDS = ("objects", "direction", "counts", "places")
_WORD = re.compile(r"\w+")
_PLACES = {name: re.compile(rf"\b(?:{rule})\b") for name, rule in PLACES.items()}
_TOKEN = re.compile(
    r"\b(?:"
    + "|".join(
        f"(?P<{role}_{number}>{rule})"
        for role, rules in (
            ("object", OBJECTS.values()),
            ("verb", VERBS.values()),
            ("placed", [PLACED]),
            ("part", ["scene|image|picture|sides?", *list(PLACES.values())[:-1]]),
            ("link", ["and|while"]),
        )
        for number, rule in enumerate(rules)
    )
    + r")\b|(?P<link_1>[,;.])"
)
_NAMES = {"object": list(OBJECTS), "verb": list(VERBS)}
Token: TypeAlias = tuple[str, str, int, int]  # role, name, start, end


class ClaimScores(TypedDict):
    """Scores of one of KINDS, in percent; None where there is nothing to divide by."""

    precision: float | None
    recall: float | None
    F1: float | None


def facts(caption: str) -> dict[str, frozenset[Any]]:
    """The claims of a caption, by KINDS."""
    text = " ".join(caption.lower().split())
    if says_no_change(text):
        return dict.fromkeys(KINDS, frozenset())
    tokens = _tokens(text)
    ends = [0, *(end for *_, end in tokens)]
    things = [
        (name, text[end:start]) for end, (role, name, start, _) in zip(ends, tokens, strict=False) if role == "object"
    ]
    return {
        "objects": frozenset(name for name, _ in things),
        "direction": frozenset(_directions(tokens, text)),
        "counts": frozenset((name, number) for name, preceding in things if (number := _count(preceding))),
        "places": frozenset(name for name, rule in _PLACES.items() if rule.search(text)),
    }


def factuality(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, ClaimScores]:
    """Precision, recall and F1 in percent for each of KINDS, over all rows together; None if there is no claim."""
    facts_of = {text: facts(text) for text in {*predictions, *(text for row in references for text in row)}}
    scores: dict[str, ClaimScores] = {}
    for kind in KINDS:
        claimed = supported = expected = recalled = 0
        for prediction, texts in zip(predictions, references, strict=True):
            claims, reference_claims = facts_of[prediction][kind], [facts_of[text][kind] for text in texts]
            claimed += len(claims)
            supported += len(claims & frozenset().union(*reference_claims))
            expected += sum(map(len, reference_claims))
            recalled += sum(len(claims & claims_of_text) for claims_of_text in reference_claims)
        precision = 100 * supported / claimed if claimed else None
        recall = 100 * recalled / expected if expected else None
        f1 = None if precision is None and recall is None else 0.0
        if precision and recall:
            f1 = 2 * precision * recall / (precision + recall)
        scores[kind] = {"precision": precision, "recall": recall, "F1": f1}
    return scores


def factuality_text(scores: Mapping[str, ClaimScores]) -> str:
    lines = [f"{'claims':14} {'precision':>9} {'recall':>9} {'F1':>9}"]
    for kind, row in scores.items():
        values = (row["precision"], row["recall"], row["F1"])
        lines.append(f"{kind:14} " + " ".join(f"{'-':>9}" if value is None else f"{value:9.2f}" for value in values))
    return "\n".join(lines)


def _tokens(text: str) -> list[Token]:
    """Objects, verbs, prepositions ("placed"), parts of the image and links, in their order."""
    tokens = []
    for match in _TOKEN.finditer(text):
        role, _, number = (match.lastgroup or "").partition("_")
        tokens.append((role, _NAMES[role][int(number)] if role in _NAMES else "", match.start(), match.end()))
    return tokens


def _directions(tokens: list[Token], text: str) -> set[tuple[str, str]]:
    claims: set[tuple[str, str]] = set()
    pending: list[tuple[str, bool]] = []  # things whose verb is still to come, and whether a link precedes them
    turning: list[str] = []  # things before an "into" that has not been resolved yet
    verb, linked = "", False  # the last verb, and whether a link has followed it
    placed = after_place = False  # after a preposition; after a thing at a place
    part = None  # where a part of the image that follows a preposition ended
    for role, name, start, end in [*tokens, ("verb", "end", len(text), len(text))]:
        if role == "placed":
            placed, part = True, None
        elif role == "part":
            part = end if placed else None
        elif role == "link":
            placed, linked, turning = False, True, []
        elif role == "object" and placed and (part is None or " of " in text[part:start]):
            after_place = True  # "along the road", "at the corner of the road", but not "at the top a road"
        elif role == "object" and turning:
            claims |= {(thing, DISAPPEARS) for thing in turning} | {(name, APPEARS)}
            turning = []
        elif role == "object" and not (after_place and linked and verb):
            pending.append((name, linked))
        elif role == "verb" and not (turning and name == "appears"):  # else: "replaced by newly built houses"
            claims |= _between(pending, verb, name, text)
            subjects = [thing for thing, after_link in pending if after_link or verb not in ("into", "replaces")]
            turning = subjects if name == "into" else []
            pending, verb, linked, placed, after_place = [], name, False, False, False
    return claims


def _between(pending: list[tuple[str, bool]], last_verb: str, verb: str, text: str) -> set[tuple[str, str]]:
    """Claims about the things between two verbs: they are objects of ``last_verb``, or subjects of ``verb``."""
    effect = {"into": APPEARS, "replaces": DISAPPEARS}.get(last_verb)  # of its object, which a link may end
    subjects = [thing for thing, linked in pending if linked or not effect]
    claims = {(thing, effect) for thing, linked in pending if effect and (verb == "end" or not linked)}
    if verb == "end" and not effect:  # "a road is built and some houses", "new houses on the left"
        shared = {"appears": APPEARS, "disappears": DISAPPEARS}.get(last_verb)
        shared = shared or (APPEARS if not last_verb and re.search(r"\bnew\b", text) else None)
        claims |= {(thing, shared) for thing in subjects if shared}
    elif verb not in ("end", "into"):
        claims |= {(thing, DISAPPEARS if verb == "disappears" else APPEARS) for thing in subjects}
    return claims


def _count(preceding: str) -> str | None:
    """The closest number word before a thing, among the last four words of the text that precedes it."""
    for word in reversed(_WORD.findall(preceding)[-4:]):
        if word in NUMBERS or word == "the":
            return NUMBERS.get(word)
        if word.isdecimal() and len(word) < 4:
            return word.lstrip("0") or None
    return None
