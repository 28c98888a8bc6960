"""Questions with short answers, and the dense description of one scene. One truth has one answer."""

from btcchat.synthetic.language import NUMBERS, pick
from btcchat.synthetic.scene import KINDS, PLACES

SINGULAR = {
    "house": "house",
    "building": "large building",
    "road": "road",
    "trees": "patch of trees",
    "pond": "pond",
    "parking": "parking lot",
}
PLURAL = {
    "house": "houses",
    "building": "large buildings",
    "road": "roads",
    "trees": "trees",
    "pond": "ponds",
    "parking": "parking lots",
}
DONE = {kind: {"built": "built", "removed": "removed"} for kind in KINDS} | {
    "trees": {"built": "planted", "removed": "cleared"},
    "pond": {"built": "dug", "removed": "filled in"},
}
EXTENDED = {"built": "extended", "removed": "reduced"}
AT = {place: f"in the {place}" for place in PLACES} | {
    "top": "at the top",
    "bottom": "at the bottom",
    "left": "on the left",
    "right": "on the right",
}
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def amount(kind: str, count: int) -> str:
    """ "three houses", "a pond", "trees": the one way an answer says it."""
    if kind == "trees":
        return "trees"
    return f"{NUMBERS[count]} {PLURAL[kind]}" if count > 1 else f"a {SINGULAR[kind]}"


def listed(parts: list[str]) -> str:
    if len(parts) < 2:
        return parts[0] if parts else "nothing"
    return " , ".join(parts[:-1]) + " and " + parts[-1]


def done(change: dict) -> str:
    """The participle of a change: "built", "cleared", "extended"."""
    return (EXTENDED if change["partial"] else DONE[change["kind"]])[change["action"]]


def outcome(changes: list[dict]) -> str:
    """ "three houses built and a pond filled in": what happened, in the order given."""
    return listed([f"{amount(c['kind'], c['count'])} {done(c)}" for c in changes])


def spoken(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Questions as people write them, "how many ?" as "How many?"; each one once."""
    written = {
        question[0].upper() + question[1:].replace(" ?", "?").replace(" .", "."): answer for question, answer in pairs
    }
    return list(written.items())


def be(kind: str) -> str:
    return "were" if kind in ("house", "trees") else "was"


def thing(kind: str) -> str:
    """The thing asked for, its number left open: "houses", "a road"."""
    return PLURAL[kind] if kind in ("house", "trees") else f"a {SINGULAR[kind]}"


def pair_questions(rng, changes: list[dict]) -> list[tuple[str, str]]:
    """Questions on a before/after pair: changed or not, what, which way, how many, where."""
    by_kind = sorted(changes, key=lambda c: KINDS.index(c["kind"]))
    out = [
        (
            pick(
                rng,
                (
                    "has anything changed ?",
                    "did the scene change ?",
                    "is there any change between the two images ?",
                    "are the two dates different ?",
                ),
            ),
            "yes" if changes else "no",
        ),
        (
            pick(
                rng,
                (
                    "what changed ?",
                    "what happened between the two dates ?",
                    "what is different in the second image ?",
                    "what has changed ?",
                ),
            ),
            outcome(by_kind),
        ),
        (
            pick(rng, ("how many changes are there ?", "how many things changed ?")),
            NUMBERS[len(changes)] if changes else "none",
        ),
    ]
    for action in ("built", "removed"):
        words = (
            ("what was built or added ?", "what is new in the second image ?")
            if action == "built"
            else ("what was removed ?", "what has disappeared ?")
        )
        found = [amount(c["kind"], c["count"]) for c in by_kind if c["action"] == action]
        out.append((pick(rng, words), listed(found)))
    for change in changes:
        out += _on_change(rng, change)
    if len({change["place"] for change in changes}) == 1:
        out.append((pick(rng, ("where is the change ?", "which part of the scene changed ?")), changes[0]["place"]))
    for kind, action in _untrue(rng, changes, max(1, len(changes))):
        out.append((f"{be(kind)} {thing(kind)} {DONE[kind][action]} ?", "no"))
        if kind == "house":
            out.append((f"how many houses were {action} ?", "none"))
    return spoken(out)


def _on_change(rng, change: dict) -> list[tuple[str, str]]:
    """Where, which way, how many and whether: of one change that happened."""
    kind, way = change["kind"], done(change)
    either = " or ".join((EXTENDED if change["partial"] else DONE[kind]).values())
    out = [
        (
            pick(rng, (f"where {be(kind)} {thing(kind)} {way} ?", f"in which part {be(kind)} {thing(kind)} {way} ?")),
            change["place"],
        ),
        (f"{be(kind)} {thing(kind)} {either} ?", way),
        (f"{be(kind)} {thing(kind)} {way} ?", "yes"),
    ]
    if kind == "house":
        out.append(
            (pick(rng, (f"how many houses were {way} ?", f"how many homes were {way} ?")), NUMBERS[change["count"]])
        )
    return out


def _untrue(rng, changes: list[dict], number: int) -> list[tuple[str, str]]:
    """``number`` kinds with an action that did not happen to them."""
    named = {change["kind"]: change["action"] for change in changes}
    drawn = [(str(kind), str(rng.choice(["built", "removed"]))) for kind in rng.permutation(KINDS)[: number + 1]]
    return [(kind, action) for kind, action in drawn if named.get(kind) != action][:number]


def one_word(place: str) -> str:
    return place.replace(" ", "")


def describe(background: str, places: dict[str, dict[str, int]]) -> str:
    """Every place in reading order with all that stands there; ``open`` where there is nothing.

    A place is one word, right before what it asks for, so that it is one token, and the next token follows from it:
    after "top left :" a small language model must first learn to look back at the words before the colon.
    """
    parts = [f"background {background}"]
    for place in PLACES:
        inside = " , ".join(amount(kind, count) for kind, count in places[place].items())
        parts.append(f"{one_word(place)} {inside or 'open'}")
    return " . ".join(parts) + " ."


def describe_pair(background: str, before: dict, after: dict, changes: list[dict]) -> str:
    """As `describe` of the first date; a place that changed says what stands there ``then``."""
    partial = {change["place"]: EXTENDED[change["action"]] for change in changes if change["partial"]}
    parts = [f"background {background}"]
    for place in PLACES:
        first, then = (" , ".join(amount(kind, n) for kind, n in at[place].items()) or "open" for at in (before, after))
        if place in partial:
            then += f" {partial[place]}"
        parts.append(f"{one_word(place)} {first}" + (f" then {then}" if then != first else ""))
    return " . ".join(parts) + " ."


def list_changes(changes: list[dict]) -> str:
    """Only what changed, where and how, in the order given; ``nothing`` where nothing did."""
    parts = [f"{one_word(c['place'])} {amount(c['kind'], c['count'])} {done(c)}" for c in changes]
    return " . ".join(parts or ["nothing"]) + " ."


def plain_caption(changes: list[dict], dates: int = 2, *, video: bool = False) -> str:
    """Every change in a sentence, always in the same words: where, what, how; over time first when.

    This is what a chat answers. Of captions in many wordings a small model learns the wordings, and guesses the rest.
    """
    parts = []
    for change in changes:
        at = f"{when(change['step'], dates, video)} , " if dates > 2 else ""
        many = change["kind"] == "trees" or change["count"] > 1
        parts.append(
            f"{at}{AT[change['place']]} {amount(change['kind'], change['count'])} "
            f"{'were' if many else 'was'} {done(change)}"
        )
    return (" , and ".join(parts) or "nothing has changed") + " ."


def plain_scene(cover: str, places: dict[str, dict[str, int]]) -> str:
    """All that stands in a scene in a sentence, always in the same words: where, what. See `plain_caption`."""
    parts = [
        f"{AT[place]} {' and '.join(amount(kind, count) for kind, count in inside.items())}"
        for place, inside in places.items()
        if inside
    ]
    return f"a scene of {cover} {': ' + ' , '.join(parts) if parts else 'with nothing on it'} ."


def scene_captions(rng, cover: str, places: dict[str, dict[str, int]]) -> list[str]:
    """Five captions of one scene: its ground and some of the things on it with their places."""
    found = [(kind, count, place) for place in PLACES for kind, count in places[place].items() if kind != "road"]
    roads = any("road" in contents for contents in places.values())
    texts: list[str] = []
    for _ in range(5):
        ground = pick(
            rng,
            (
                f"a scene of {cover}",
                f"an aerial view of {cover}",
                f"land covered by {cover}",
                f"a place with mostly {cover}",
            ),
        )
        chosen = [found[i] for i in sorted(rng.permutation(len(found))[: int(rng.integers(2, 5))])]
        names = [f"{amount(kind, count)} {AT[place]}" for kind, count, place in chosen]
        if roads and rng.random() < 0.6:
            names.append(pick(rng, ("a road running through", "a road")))
        texts.append(
            f"{ground} {'and' if ' with ' in ground else 'with'} {listed(names) if names else 'nothing on it'} ."
        )
    return texts


def image_questions(rng, cover: str | None, places: dict[str, dict[str, int]]) -> list[tuple[str, str]]:
    """Questions on one scene: presence, counting, land cover, where something is, what stands somewhere.
    ``cover`` is None where none clearly dominates: then it is not asked for."""
    totals = {kind: sum(contents.get(kind, 0) for contents in places.values()) for kind in KINDS}
    out = []
    if cover:
        out.append(
            (
                pick(
                    rng,
                    (
                        "what covers most of the scene ?",
                        "what is the main land cover ?",
                        "which land cover dominates ?",
                    ),
                ),
                cover,
            )
        )
    for kind in map(str, rng.permutation(KINDS)[:4]):
        question = "are there any houses" if kind == "house" else f"is there a {SINGULAR[kind]}"
        out.append(
            (f"{question}{pick(rng, ('', ' in this image', ' in the scene'))} ?", "yes" if totals[kind] else "no")
        )
    for kind, odds in (("house", 0.9), ("building", 0.7), ("pond", 0.4), ("parking", 0.4)):
        if rng.random() < odds:
            out.append(
                (
                    pick(rng, (f"how many {PLURAL[kind]} are there ?", f"count the {PLURAL[kind]} .")),
                    NUMBERS[totals[kind]] if totals[kind] else "none",
                )
            )
    for kind in KINDS:
        at = [place for place in PLACES if kind in places[place]]
        if len(at) == 1 and kind != "road":
            name = "house" if totals[kind] == 1 and kind == "house" else thing(kind).removeprefix("a ")
            verb = "are" if name in ("houses", "trees") else "is"
            out.append((pick(rng, (f"where {verb} the {name} ?", f"in which part {verb} the {name} ?")), at[0]))
    for place in map(str, rng.permutation([place for place in PLACES if places[place]])[:2]):
        inside = listed([amount(kind, count) for kind, count in places[place].items()])
        out.append((pick(rng, (f"what is {AT[place]} ?", f"what can be seen {AT[place]} ?")), inside))
        kind = pick(rng, list(places[place])) if rng.random() < 0.4 else pick(rng, KINDS)
        question = "are there any houses" if kind == "house" else f"is there a {SINGULAR[kind]}"
        out.append((f"{question} {AT[place]} ?", "yes" if kind in places[place] else "no"))
        if "house" in places[place]:
            out.append((f"how many houses are {AT[place]} ?", NUMBERS[places[place]["house"]]))
    return spoken(out)


def when(step: int, dates: int, video: bool) -> str:
    if video:
        return "in the first half" if step < (dates - 2) / 2 else "in the second half"
    return f"between the {ORDINALS[step]} and the {ORDINALS[step + 1]} date"


def time_questions(rng, changes: list[dict], dates: int, *, video: bool) -> list[tuple[str, str]]:
    """Questions on a series or a video: what happened, when, how many, where."""
    whole = "video" if video else "series"
    out = [
        (
            pick(rng, (f"what happens in this {whole} ?", "what happens over time ?", "what happened here ?")),
            outcome(changes),
        ),
        (
            pick(rng, ("does anything change over time ?", f"is there a change in this {whole} ?")),
            "yes" if changes else "no",
        ),
    ]
    for change in changes:
        kind, way = change["kind"], done(change)
        words = ("at which time",) if video else ("between which dates",)
        out.append(
            (
                f"{pick(rng, ('when', 'when', *words))} {be(kind)} {thing(kind)} {way} ?",
                when(change["step"], dates, video),
            )
        )
        out += _on_change(rng, change)
    if len(changes) == 1:
        out.append(
            (
                pick(rng, ("when does the change happen ?", "when did it happen ?")),
                when(changes[0]["step"], dates, video),
            )
        )
    if len(changes) == 2:
        out.append(("what happened first ?", outcome(changes[:1])))
    for kind, action in _untrue(rng, changes, max(1, len(changes))):
        out.append((f"{be(kind)} {thing(kind)} {DONE[kind][action]} ?", "no"))
    return spoken(out)
