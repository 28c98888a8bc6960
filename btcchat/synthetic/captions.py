"""Captions: what a person would say about a scene or about its changes. Lower case, ' .' at the end."""

from numpy.random import Generator

from btcchat.synthetic.answers import Contents, amount, listed
from btcchat.synthetic.changes import Change
from btcchat.synthetic.scene import PLACES
from btcchat.synthetic.words import NUMBERS, phrase, pick, words


def place_phrase(rng: Generator, place: str) -> str:
    if " " not in place:
        return phrase(rng, place)
    vertical, horizontal = place.split()
    if rng.random() < 0.4:
        vertical = {"top": "upper", "bottom": "lower"}[vertical]
    return phrase(rng, "corner", v=vertical, h=horizontal)


def subject(rng: Generator, change: Change, word: str = "", definite: bool = False) -> tuple[str, bool]:
    """The thing with its number, such as "three new houses", and whether it is plural."""
    singular, plural = pick(rng, words()["nouns"][change["kind"]])
    word = word and word + " "
    if change["count"] > 1:
        return f"{NUMBERS[change['count']]} {word}{plural}", True
    if plural is not None and singular is None:
        if plural.startswith("some "):
            return f"some {word}{plural[5:]}", True
        return f"{'the ' if definite and not word else ''}{word}{plural}", True
    article = "the" if definite else phrase(rng, "article")
    return f"{article} {word}{singular}", False


def clause(rng: Generator, change: Change) -> str:
    """One change as a clause that says what, which way, how many and where, each exactly once."""
    built, where = change["action"] == "built", place_phrase(rng, change["place"])
    if change["partial"]:
        lot = f"the {pick(rng, words()['nouns']['parking'])[0]}"
        done = pick(rng, words()["participles"]["part"][change["action"]])
        return phrase(rng, "part", noun=lot, where=where, done=done)
    form = rng.random()
    if built and form < 0.22:
        noun, many = subject(rng, change, "new")
        return phrase(rng, "new", noun=noun, where=where, are=_are(many))
    new = pick(rng, ("", "new")) if built else ""
    noun, many = subject(rng, change, new, definite=not built and rng.random() < 0.4)
    if form < 0.4:
        verbs = words()["verbs"][("grow" if change["kind"] == "trees" else "come") if built else "go"]
        singular, plural, perfect = pick(rng, verbs)
        verb = pick(rng, (plural, f"have {perfect}") if many else (singular, f"has {perfect}"))
        return phrase(rng, "happens", noun=noun, verb=verb, where=where)
    if not built and form < 0.5:
        return phrase(rng, "gone", noun=noun, where=where, are=_are(many))
    done = pick(rng, words()["participles"][change["kind"]][change["action"]])
    verb = phrase(rng, "passive_many" if many else "passive_one", done=done)
    return phrase(rng, "done", noun=noun, verb=verb, where=where)


def _are(many: bool) -> str:
    return "are" if many else "is"


def replacement(rng: Generator, built: Change, removed: Change) -> str:
    """Two changes in one place as one clause: what is built replaces the other."""
    where = place_phrase(rng, built["place"])
    new, many = subject(rng, built, pick(rng, ("", "new")))
    old, several = subject(rng, removed, definite=rng.random() < 0.5)
    make, replace = "make" if several else "makes", "replace" if many else "replaces"
    return phrase(rng, "replacement", old=old, new=new, where=where, make=make, replace=replace, are=_are(several))


def caption(rng: Generator, changes: list[Change], over_time: bool = False) -> str:
    """One sentence that names every change, or says that there is none; ``over_time``: for more than two dates."""
    suffix = "_over_time" if over_time else ""
    if not changes:
        return phrase(rng, "unchanged" + suffix)
    changes = [changes[i] for i in rng.permutation(len(changes))]
    swapped = (
        len(changes) == 2
        and changes[0]["place"] == changes[1]["place"]
        and changes[0]["action"] != changes[1]["action"]
        and not any(change["partial"] for change in changes)
    )
    if swapped and rng.random() < 0.5:
        changes.sort(key=lambda change: change["action"] != "built")
        text = replacement(rng, *changes)
    else:
        text = clause(rng, changes[0])
        for change in changes[1:]:
            text += phrase(rng, "link") + clause(rng, change)
    opening = phrase(rng, "opening" + suffix) if rng.random() < 0.2 else ""
    return f"{opening}{text} ."


def captions(rng: Generator, changes: list[Change], over_time: bool = False, number: int = 5) -> list[str]:
    """``number`` different captions of the same changes."""
    texts: list[str] = []
    while len(texts) < number:
        text = caption(rng, changes, over_time)
        if text not in texts:
            texts.append(text)
    return texts


def scene_captions(rng: Generator, cover: str, places: Contents) -> list[str]:
    """Five captions of one scene: its ground, and some of the things on it with their places."""
    found = [(kind, count, place) for place in PLACES for kind, count in places[place].items() if kind != "road"]
    roads = any("road" in contents for contents in places.values())
    texts: list[str] = []
    for _ in range(5):
        ground = phrase(rng, "ground", cover=cover)
        chosen = [found[i] for i in sorted(rng.permutation(len(found))[: int(rng.integers(2, 5))])]
        names = [f"{amount(kind, count)} {words()['at'][place]}" for kind, count, place in chosen]
        if roads and rng.random() < 0.6:
            names.append(phrase(rng, "with_road"))
        joint = "and" if " with " in ground else "with"
        texts.append(f"{ground} {joint} {listed(names) if names else 'nothing on it'} .")
    return texts
