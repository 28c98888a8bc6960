"""Answers: a scene and its changes in words, always in the same ones, so that a truth has exactly one answer."""

from btcchat.synthetic.changes import Change
from btcchat.synthetic.scene import PLACES
from btcchat.synthetic.words import NUMBERS, ORDINALS, words

Contents = dict[str, dict[str, int]]  # place -> kind -> count


def amount(kind: str, count: int) -> str:
    """ "three houses", "a pond", "trees"."""
    if kind == "trees":
        return "trees"
    return f"{NUMBERS[count]} {words()['many'][kind]}" if count > 1 else f"a {words()['one'][kind]}"


def listed(parts: list[str]) -> str:
    if len(parts) < 2:
        return parts[0] if parts else "nothing"
    return " , ".join(parts[:-1]) + " and " + parts[-1]


def ways(change: Change) -> dict[str, str]:
    """Action -> participle for the kind of thing that changed: {"built": "planted", "removed": "cleared"}."""
    return words()["done"]["part" if change["partial"] else change["kind"]]


def done(change: Change) -> str:
    """The participle of a change: "built", "cleared", "extended"."""
    return ways(change)[change["action"]]


def when(step: int, dates: int, video: bool) -> str:
    if video:
        return "in the first half" if step < (dates - 2) / 2 else "in the second half"
    return f"between the {ORDINALS[step]} and the {ORDINALS[step + 1]} date"


def one_word(place: str) -> str:
    return place.replace(" ", "")


def describe(background: str, places: Contents) -> str:
    """Every place in reading order with everything in it; ``open`` if there is nothing.

    A place is one word, directly before what is in it: it is one token then, and the next token follows from it.
    After "top left :" a small language model must first learn to look back at the words before the colon.
    """
    parts = [f"background {background}"]
    parts += [f"{one_word(place)} {_inside(places[place])}" for place in PLACES]
    return " . ".join(parts) + " ."


def describe_pair(background: str, before: Contents, after: Contents, changes: list[Change]) -> str:
    """As `describe` for the first date; a place that changed also says what is there ``then``."""
    partial = {change["place"]: done(change) for change in changes if change["partial"]}
    parts = [f"background {background}"]
    for place in PLACES:
        first, then = _inside(before[place]), _inside(after[place])
        if place in partial:
            then += f" {partial[place]}"
        parts.append(f"{one_word(place)} {first}" + (f" then {then}" if then != first else ""))
    return " . ".join(parts) + " ."


def _inside(contents: dict[str, int]) -> str:
    return " , ".join(amount(kind, count) for kind, count in contents.items()) or "open"


def list_changes(changes: list[Change]) -> str:
    """Only what changed, where and how, in the given order; ``nothing`` if nothing did."""
    parts = [f"{one_word(c['place'])} {amount(c['kind'], c['count'])} {done(c)}" for c in changes]
    return " . ".join(parts or ["nothing"]) + " ."


def plain_caption(changes: list[Change], dates: int = 2, *, video: bool = False) -> str:
    """Every change in one sentence, always worded the same way: where, what, how; for a series or video, first when.

    This is what a chat answers. From captions in many wordings a small model learns the wordings and guesses the rest.
    """
    parts = []
    for change in changes:
        time = f"{when(change['step'], dates, video)} , " if dates > 2 else ""
        were = "were" if change["kind"] == "trees" or change["count"] > 1 else "was"
        thing = amount(change["kind"], change["count"])
        parts.append(f"{time}{words()['at'][change['place']]} {thing} {were} {done(change)}")
    return (" , and ".join(parts) or "nothing has changed") + " ."


def plain_scene(cover: str, places: Contents) -> str:
    """Everything in a scene in one sentence, always worded the same way: where, what. See `plain_caption`."""
    parts = [
        f"{words()['at'][place]} {' and '.join(amount(kind, count) for kind, count in inside.items())}"
        for place, inside in places.items()
        if inside
    ]
    return f"a scene of {cover} {': ' + ' , '.join(parts) if parts else 'with nothing on it'} ."
