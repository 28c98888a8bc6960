"""Questions with short answers, about one scene, a pair, a series or a video. One truth has one answer."""

from numpy.random import Generator

from btcchat.synthetic.answers import Contents, amount, done, listed, outcome, ways, when
from btcchat.synthetic.changes import Change
from btcchat.synthetic.scene import KINDS, PLACES
from btcchat.synthetic.words import NUMBERS, phrase, pick, words

Turns = list[tuple[str, str]]  # (question, answer)


def spoken(turns: Turns) -> Turns:
    """Questions as people write them, "how many ?" as "How many?"; each one once."""
    written = {
        question[0].upper() + question[1:].replace(" ?", "?").replace(" .", "."): answer for question, answer in turns
    }
    return list(written.items())


def be(kind: str) -> str:
    return "were" if kind in ("house", "trees") else "was"


def thing(kind: str) -> str:
    """The thing that a question is about, whatever its number: "houses", "a road"."""
    return words()["many"][kind] if kind in ("house", "trees") else f"a {words()['one'][kind]}"


def is_there(kind: str) -> str:
    return "are there any houses" if kind == "house" else f"is there a {words()['one'][kind]}"


def pair_questions(rng: Generator, changes: list[Change]) -> Turns:
    """Questions about a before/after pair: changed or not, what, which way, how many, where."""
    by_kind = sorted(changes, key=lambda c: KINDS.index(c["kind"]))
    out = [
        (phrase(rng, "ask_changed"), "yes" if changes else "no"),
        (phrase(rng, "ask_what"), outcome(by_kind)),
        (phrase(rng, "ask_how_many"), NUMBERS[len(changes)] if changes else "none"),
    ]
    for action in ("built", "removed"):
        found = [amount(c["kind"], c["count"]) for c in by_kind if c["action"] == action]
        out.append((phrase(rng, f"ask_{action}"), listed(found)))
    for change in changes:
        out += _on_change(rng, change)
    if len({change["place"] for change in changes}) == 1:
        out.append((phrase(rng, "ask_place"), changes[0]["place"]))
    for kind, action in _untrue(rng, changes):
        out.append((f"{be(kind)} {thing(kind)} {words()['done'][kind][action]} ?", "no"))
        if kind == "house":
            out.append((f"how many houses were {action} ?", "none"))
    return spoken(out)


def _on_change(rng: Generator, change: Change) -> Turns:
    """About one change that happened: where, which way, whether and how many."""
    kind, way = change["kind"], done(change)
    either = " or ".join(ways(change).values())
    out = [
        (phrase(rng, "ask_where", was=be(kind), thing=thing(kind), done=way), change["place"]),
        (f"{be(kind)} {thing(kind)} {either} ?", way),
        (f"{be(kind)} {thing(kind)} {way} ?", "yes"),
    ]
    if kind == "house":
        out.append((phrase(rng, "ask_houses", done=way), NUMBERS[change["count"]]))
    return out


def _untrue(rng: Generator, changes: list[Change]) -> list[tuple[str, str]]:
    """Kinds with an action that did not happen to them: as many as there are changes, and at least one."""
    number = max(1, len(changes))
    named = {change["kind"]: change["action"] for change in changes}
    drawn = [(str(kind), str(rng.choice(["built", "removed"]))) for kind in rng.permutation(KINDS)[: number + 1]]
    return [(kind, action) for kind, action in drawn if named.get(kind) != action][:number]


def image_questions(rng: Generator, cover: str | None, places: Contents) -> Turns:
    """Questions about one scene: presence, counting, land cover, where something is, what is somewhere.

    ``cover`` is None if no land cover clearly dominates; then there is no question about it.
    """
    totals = {kind: sum(contents.get(kind, 0) for contents in places.values()) for kind in KINDS}
    out = []
    if cover:
        out.append((phrase(rng, "ask_cover"), cover))
    for kind in map(str, rng.permutation(KINDS)[:4]):
        out.append((phrase(rng, "ask_any", is_there=is_there(kind)), "yes" if totals[kind] else "no"))
    for kind, odds in (("house", 0.9), ("building", 0.7), ("pond", 0.4), ("parking", 0.4)):
        if rng.random() < odds:
            count = NUMBERS[totals[kind]] if totals[kind] else "none"
            out.append((phrase(rng, "ask_count", things=words()["many"][kind]), count))
    for kind in KINDS:
        at = [place for place in PLACES if kind in places[place]]
        if len(at) == 1 and kind != "road":
            name = "house" if totals[kind] == 1 and kind == "house" else thing(kind).removeprefix("a ")
            verb = "are" if name in ("houses", "trees") else "is"
            out.append((phrase(rng, "ask_where_is", be=verb, name=name), at[0]))
    for place in map(str, rng.permutation([place for place in PLACES if places[place]])[:2]):
        here, inside = words()["at"][place], places[place]
        found = listed([amount(kind, count) for kind, count in inside.items()])
        out.append((phrase(rng, "ask_what_is", at=here), found))
        kind = pick(rng, list(inside)) if rng.random() < 0.4 else pick(rng, KINDS)
        out.append((f"{is_there(kind)} {here} ?", "yes" if kind in inside else "no"))
        if "house" in inside:
            out.append((f"how many houses are {here} ?", NUMBERS[inside["house"]]))
    return spoken(out)


def time_questions(rng: Generator, changes: list[Change], dates: int, *, video: bool) -> Turns:
    """Questions about a series or a video: what happened, when, how many, where."""
    whole = "video" if video else "series"
    out = [
        (phrase(rng, "ask_what_happens", whole=whole), outcome(changes)),
        (phrase(rng, "ask_any_change", whole=whole), "yes" if changes else "no"),
    ]
    for change in changes:
        kind, time = change["kind"], when(change["step"], dates, video)
        out.append((phrase(rng, f"ask_when_{whole}", was=be(kind), thing=thing(kind), done=done(change)), time))
        out += _on_change(rng, change)
    if len(changes) == 1:
        out.append((phrase(rng, "ask_when"), when(changes[0]["step"], dates, video)))
    if len(changes) == 2:
        out.append(("what happened first ?", outcome(changes[:1])))
    for kind, action in _untrue(rng, changes):
        out.append((f"{be(kind)} {thing(kind)} {words()['done'][kind][action]} ?", "no"))
    return spoken(out)
