"""Questions with short answers, about one scene, a pair, a series or a video. One truth has one answer."""

from collections.abc import Iterable

from numpy.random import Generator

from btcchat.synthetic.answers import Contents, amount, done, listed, plain_caption, ways, when
from btcchat.synthetic.changes import INVERSE, Change
from btcchat.synthetic.phrasing import Question
from btcchat.synthetic.scene import KINDS, PLACES
from btcchat.synthetic.words import NUMBERS, pick, words

COUNTED = ("house", "building", "pond", "parking")  # trees are not, and a road that crosses places is one or many


def is_many(kind: str) -> bool:
    return kind in ("house", "trees")


def noun(kind: str) -> str:
    """The thing that a question is about, whatever its number: "houses", "road"."""
    return words()["many" if is_many(kind) else "one"][kind]


def thing(kind: str) -> str:
    """ "houses", "a road"."""
    return noun(kind) if is_many(kind) else f"a {noun(kind)}"


def is_there(kind: str) -> str:
    return "are there any houses" if kind == "house" else f"is there a {words()['one'][kind]}"


def yes_or_no(truth: object) -> str:
    return "yes" if truth else "no"


def pair_questions(
    rng: Generator, changes: list[Change], places: tuple[Contents, Contents] | None = None
) -> list[Question]:
    """Questions about a before/after pair: changed or not, what, which way, how many, where, which date.

    changes: in reading order. places: what is in each place at both dates, None if it is not known.
    """
    out = [
        Question("changed", yes_or_no(changes)),
        Question("same", yes_or_no(not changes)),
        Question("what", plain_caption(changes)),
        Question("how_many", NUMBERS[len(changes)] if changes else "none"),
    ]
    by_kind = sorted(changes, key=lambda c: KINDS.index(c["kind"]))
    done_to = {action: [c for c in by_kind if c["action"] == action] for action in ("built", "removed")}
    for action, found in done_to.items():
        out.append(Question(action, listed([amount(c["kind"], c["count"]) for c in found])))
    more = {sign(len(built) - len(removed)) for built, removed in [done_to.values()]}
    more |= {sign(total(done_to["built"]) - total(done_to["removed"]))}
    if len(more) == 1:  # counted as changes or as things
        out.append(Question("more_built", yes_or_no(more == {1})))
    for change in changes:
        out += _on_change(change)
        date = int(change["action"] == "built")
        if places and change["kind"] not in places[1 - date][change["place"]]:
            slots = {"noun": noun(change["kind"]), "at": words()["at"][change["place"]]}
            slots["is"] = "are" if is_many(change["kind"]) else "is"
            out.append(Question("which_date", ("the first", "the second")[date], slots))
    if len({change["place"] for change in changes}) == 1:
        out.append(Question("place", changes[0]["place"]))
    return out + _on_untrue(rng, changes)


def sign(number: int) -> int:
    return (number > 0) - (number < 0)


def total(changes: Iterable[Change]) -> int:
    return sum(change["count"] for change in changes)


def _slots(kind: str, way: str, other: str) -> dict[str, str]:
    """The words for a kind of thing, of what was done to it and of the opposite."""
    was, has = ("were", "have") if is_many(kind) else ("was", "has")
    return {"thing": thing(kind), "noun": noun(kind), "was": was, "has": has, "done": way, "other": other}


def _on_change(change: Change) -> list[Question]:
    """About one change that happened: where, which way, whether and how many."""
    way, other = done(change), ways(change)[INVERSE[change["action"]]]
    slots = _slots(change["kind"], way, other)
    out = [
        Question("where", change["place"], slots),
        Question("either", way, slots),
        Question("was", "yes", slots),
        Question("was_not", "no", slots),
    ]
    if change["kind"] == "house":
        out.append(Question("houses", NUMBERS[change["count"]], {"done": way}))
    return out


def _on_untrue(rng: Generator, changes: list[Change]) -> list[Question]:
    """Whether something happened that did not: as often as there are changes, and at least once."""
    named = {change["kind"]: change["action"] for change in changes}
    number = max(1, len(changes))
    drawn = [(str(kind), str(rng.choice(["built", "removed"]))) for kind in rng.permutation(KINDS)[: number + 1]]
    out = []
    for kind, action in [(kind, action) for kind, action in drawn if named.get(kind) != action][:number]:
        table = words()["done"][kind]
        slots = _slots(kind, table[action], table[INVERSE[action]])
        out += [Question("was", "no", slots), Question("was_not", "yes", slots)]
        if kind == "house":
            out.append(Question("houses", "none", {"done": action}))
    return out


def image_questions(rng: Generator, cover: str | None, places: Contents) -> list[Question]:
    """Questions about one scene: presence, counting, land cover, where something is, what is somewhere.

    ``cover`` is None if no land cover clearly dominates; then there is no question about it.
    """
    totals = {kind: sum(contents.get(kind, 0) for contents in places.values()) for kind in KINDS}
    out = [Question("cover", cover)] if cover else []
    for kind in map(str, rng.permutation(KINDS)[:4]):
        slots = {"is_there": is_there(kind), "thing": thing(kind), "things": words()["many"][kind]}
        out.append(Question("any", yes_or_no(totals[kind]), slots))
    for kind in map(str, rng.permutation(KINDS)[:2]):
        out.append(Question("none", yes_or_no(not totals[kind]), {"things": words()["many"][kind]}))
    for kind, odds in zip(COUNTED, (0.9, 0.7, 0.4, 0.4), strict=True):
        if rng.random() < odds:
            count = NUMBERS[totals[kind]] if totals[kind] else "none"
            out.append(Question("count", count, {"things": words()["many"][kind]}))
    one, other = map(str, rng.permutation(COUNTED)[:2])
    slots = {"things": words()["many"][one], "others": words()["many"][other]}
    out.append(Question("more", yes_or_no(totals[one] > totals[other]), slots))
    for kind in KINDS:
        at = [place for place in PLACES if kind in places[place]]
        if len(at) == 1 and kind != "road":
            name = "house" if totals[kind] == 1 and kind == "house" else noun(kind)
            out.append(
                Question("where_is", at[0], {"be": "are" if name in ("houses", "trees") else "is", "name": name})
            )
    for place in map(str, rng.permutation([place for place in PLACES if places[place]])[:2]):
        out += _on_place(rng, words()["at"][place], places[place])
    return out


def _on_place(rng: Generator, here: str, inside: dict[str, int]) -> list[Question]:
    """What is in one place of a scene."""
    out = [Question("what_is", listed([amount(kind, count) for kind, count in inside.items()]), {"at": here})]
    kind = pick(rng, list(inside)) if rng.random() < 0.4 else pick(rng, KINDS)
    slots = {"is_there": is_there(kind), "thing": thing(kind), "things": words()["many"][kind], "at": here}
    slots["are"] = "are" if is_many(kind) else "is"
    out.append(Question("any_at", yes_or_no(kind in inside), slots))
    if "house" in inside:
        out.append(Question("count_at", NUMBERS[inside["house"]], {"at": here}))
    return out


def time_questions(rng: Generator, changes: list[Change], dates: int, *, video: bool) -> list[Question]:
    """Questions about a series or a video: what happened, when, how many, where."""
    whole = {"whole": "video" if video else "series"}
    out = [
        Question("happens", plain_caption(changes, dates, video=video), whole),
        Question("happens_any", yes_or_no(changes), whole),
        Question("happens_none", yes_or_no(not changes), whole),
    ]
    for change in changes:
        time = when(change["step"], dates, video)
        way = done(change)
        out.append(Question("when", time, _slots(change["kind"], way, ways(change)[INVERSE[change["action"]]])))
        out += _on_change(change)
    if len(changes) == 1:
        out.append(Question("when_all", when(changes[0]["step"], dates, video), whole))
    if len(changes) == 2:
        out.append(Question("first", plain_caption(changes[:1])))
    return out + _on_untrue(rng, changes)
