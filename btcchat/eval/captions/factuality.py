"""What a change caption claims, read with a small lexicon and held against what its references claim.

Four kinds of claims, each a set for a caption ("Two houses are built along the road at the top left.") :

    objects      types of things that are named, changed or not          building, road
    direction    a type with "appears" or "disappears"                   (building, appears)
    counts       a type with a number, "some" or "many"                  (building, 2)
    places       parts of the image; beside a road                       top, left, by the road

precision: of the claims of the predictions, those that at least one of the pair's references makes. recall: of the
claims of the references, each counted on its own, those that the prediction makes; references differ, so that 100 is
out of reach (docs/eval.md has what people reach). A caption that says that nothing changed claims nothing.

Direction is read by word order. Things before a verb are its subject; "X replaces Y" and "Y turns into X" say that X
appears and Y disappears; a thing behind a preposition (along the road) is a place and changes nothing; what stands
behind the last verb shares it ("a road is built and some houses").
"""

import re
from collections.abc import Sequence

from btcchat.eval.captions.changes import says_no_change
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
Token = tuple[str, str, int, int]  # role, name, start, end


def facts(caption: str) -> dict[str, frozenset]:
    """The claims of a caption, by KINDS."""
    text = " ".join(caption.lower().split())
    if says_no_change(text):
        return dict.fromkeys(KINDS, frozenset())
    tokens = _tokens(text)
    ends = [0, *(end for *_, end in tokens)]
    things = [
        (name, text[before:start])
        for before, (role, name, start, _) in zip(ends, tokens, strict=False)
        if role == "object"
    ]
    return {
        "objects": frozenset(name for name, _ in things),
        "direction": frozenset(_directions(tokens, text)),
        "counts": frozenset((name, number) for name, before in things if (number := _count(before))),
        "places": frozenset(name for name, rule in _PLACES.items() if rule.search(text)),
    }


def factuality(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, dict[str, float | None]]:
    """Precision, recall and F1 in percent of each of KINDS, over all rows together; None where there is no claim."""
    read = {text: facts(text) for text in {*predictions, *(text for row in references for text in row)}}
    scores = {}
    for kind in KINDS:
        said = right = expected = found = 0
        for prediction, given in zip(predictions, references, strict=True):
            claims, theirs = read[prediction][kind], [read[text][kind] for text in given]
            said, right = said + len(claims), right + len(claims & frozenset().union(*theirs))
            expected, found = expected + sum(map(len, theirs)), found + sum(len(claims & one) for one in theirs)
        precision = 100 * right / said if said else None
        recall = 100 * found / expected if expected else None
        f1 = 2 * precision * recall / (precision + recall) if right else 0.0 if said or expected else None
        scores[kind] = {"precision": precision, "recall": recall, "F1": f1}
    return scores


def factuality_text(scores: dict[str, dict[str, float | None]]) -> str:
    lines = [f"{'claims':14} {'precision':>9} {'recall':>9} {'F1':>9}"]
    for kind, row in scores.items():
        lines.append(f"{kind:14} " + " ".join(f"{'-':>9}" if v is None else f"{v:9.2f}" for v in row.values()))
    return "\n".join(lines)


def _tokens(text: str) -> list[Token]:
    """Objects, verbs, prepositions ("placed"), parts of the image and links, in their order."""
    found = []
    for match in _TOKEN.finditer(text):
        role, number = match.lastgroup.split("_")
        found.append((role, _NAMES[role][int(number)] if role in _NAMES else "", match.start(), match.end()))
    return found


def _directions(tokens: list[Token], text: str) -> set[tuple[str, str]]:
    said: set[tuple[str, str]] = set()
    pending: list[tuple[str, bool]] = []  # things whose verb is to come, and whether a link stands before them
    taken: list[str] = []  # what "into" has not yet turned into anything
    verb, linked = "", False  # the last verb, and whether a link has come since
    placed = aside = False  # behind a preposition; behind a thing at a place, and a link
    part = None  # where a part of the image ended that a preposition led to
    for role, name, start, end in [*tokens, ("verb", "end", len(text), len(text))]:
        if role == "placed":
            placed, part = True, None
        elif role == "part":
            part = end if placed else None
        elif role == "link":
            placed, linked, taken = False, True, []
        elif role == "object" and placed and (part is None or " of " in text[part:start]):
            aside = True  # "along the road", "at the corner of the road", but not "at the top a road"
        elif role == "object" and taken:
            said |= {(thing, DISAPPEARS) for thing in taken} | {(name, APPEARS)}
            taken = []
        elif role == "object" and not (aside and linked and verb):
            pending.append((name, linked))
        elif role == "verb" and not (taken and name == "appears"):  # else: "replaced by newly built houses"
            said |= _said(pending, verb, name, text)
            own = [thing for thing, behind in pending if behind or verb not in ("into", "replaces")]
            taken = own if name == "into" else []
            pending, verb, linked, placed, aside = [], name, False, False, False
    return said


def _said(pending: list[tuple[str, bool]], before: str, verb: str, text: str) -> set[tuple[str, str]]:
    """What is said of the things between two verbs: they are objects of the one before, or subjects of ``verb``."""
    behind = {"into": APPEARS, "replaces": DISAPPEARS}.get(before)  # these have an object; a link may end it
    subjects = [thing for thing, linked in pending if linked or not behind]
    said = {(thing, behind) for thing, linked in pending if behind and (verb == "end" or not linked)}
    if verb == "end" and not behind:  # "a road is built and some houses", "new houses on the left"
        shared = {"appears": APPEARS, "disappears": DISAPPEARS}.get(before)
        shared = shared or (APPEARS if not before and re.search(r"\bnew\b", text) else None)
        said |= {(thing, shared) for thing in subjects if shared}
    elif verb not in ("end", "into"):
        said |= {(thing, DISAPPEARS if verb == "disappears" else APPEARS) for thing in subjects}
    return said


def _count(before: str) -> str | None:
    """The number word nearest before a thing, among the four words between it and whatever is said before."""
    for word in reversed(_WORD.findall(before)[-4:]):
        if word in NUMBERS or word == "the":
            return NUMBERS.get(word)
        if word.isdecimal() and len(word) < 4:
            return word.lstrip("0") or None
    return None
