"""Captions: what a person would say of the changes between two dates. Lower case, ' .' at the end."""

from btcchat.synthetic.scene import KINDS, PLACES

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
INVERSE = {"built": "removed", "removed": "built"}

# What a thing is called: (singular, plural or None).
NOUNS = {
    "house": [("house", "houses")] * 4 + [("home", "homes"), ("small house", "small houses")],
    "building": [("large building", None)] * 4 + [("big building", None), ("warehouse", None), ("large roof", None)],
    "road": [("road", None)] * 5 + [("street", None)],
    "trees": [
        ("patch of trees", None),
        ("group of trees", None),
        ("patch of forest", None),
        (None, "trees"),
        (None, "some trees"),
        ("small forest", None),
    ],
    "pond": [("pond", None)] * 5 + [("small lake", None)],
    "parking": [("parking lot", None)] * 4 + [("car park", None), ("parking area", None)],
}
# What is done to it: participles ("is built") and verbs that go without an object (singular, plural, perfect).
DONE = {
    ("house", "built"): ["built", "built", "constructed", "put up", "added"],
    ("house", "removed"): ["demolished", "demolished", "torn down", "removed", "pulled down"],
    ("building", "built"): ["built", "built", "constructed", "erected", "put up"],
    ("building", "removed"): ["demolished", "demolished", "torn down", "removed", "pulled down"],
    ("road", "built"): ["built", "built", "laid", "constructed", "added"],
    ("road", "removed"): ["removed", "removed", "taken away", "torn up"],
    ("trees", "built"): ["planted", "planted", "added"],
    ("trees", "removed"): ["cleared", "cleared", "cut down", "removed", "felled"],
    ("pond", "built"): ["dug", "dug", "created", "added"],
    ("pond", "removed"): ["filled in", "filled in", "drained", "removed"],
    ("parking", "built"): ["built", "built", "paved", "constructed", "added"],
    ("parking", "removed"): ["removed", "removed", "torn up", "taken away"],
}
PARTIAL = {"built": ["extended", "enlarged", "expanded"], "removed": ["reduced", "cut back", "made smaller"]}
COMES = [("appears", "appear", "appeared"), ("comes up", "come up", "come up")]
GOES = [("disappears", "disappear", "disappeared"), ("vanishes", "vanish", "vanished")]
GROWS = [("grows", "grow", "grown"), ("appears", "appear", "appeared")]

CORNERS = (
    "in the {v} {h}",
    "in the {v} {h} corner",
    "at the {v} {h}",
    "in the {v} {h} of the scene",
    "in the {v} {h} part of the image",
    "in the {v} {h} corner of the image",
)
EDGES = {
    "top": ("at the top", "at the top of the scene", "in the upper part", "in the upper part of the image"),
    "bottom": ("at the bottom", "at the bottom of the scene", "in the lower part", "in the lower part of the image"),
    "left": (
        "on the left",
        "on the left side",
        "on the left of the scene",
        "at the left edge",
        "on the left side of the image",
    ),
    "right": (
        "on the right",
        "on the right side",
        "on the right of the scene",
        "at the right edge",
        "on the right side of the image",
    ),
    "center": (
        "in the center",
        "in the middle",
        "in the middle of the scene",
        "in the center of the image",
        "at the center",
    ),
}
OPENINGS_OVER_TIME = ("over time , ", "over the years , ", "in the course of time , ")
OPENINGS = (
    "in the second image , ",
    "over time , ",
    "between the two dates , ",
    "compared with the first image , ",
    "by the second date , ",
    "since the first image , ",
)
LINKS = (" and ", " , and ", " , while ", " while ", " ; ", " , and also ")
UNCHANGED_OVER_TIME = (
    "nothing changes over time .",
    "the scene stays as it is at all dates .",
    "no change can be seen at any time .",
    "the site remains unchanged from first to last .",
    "the place looks the same all the time .",
    "everything stays as it was at the first date .",
    "the area does not change over the years .",
)
UNCHANGED = (
    "nothing has changed here .",
    "no change can be seen .",
    "the scene stays as it was .",
    "the place looks just like it did before .",
    "everything is as it was at the first date .",
    "both dates show the same picture .",
    "there is nothing new in the second image .",
    "no difference can be found between the two dates .",
    "the two images show an unchanged scene .",
    "only the light differs , nothing else .",
    "the area has not changed over time .",
    "the site remains unchanged .",
    "it all looks the same as on the first date .",
    "no part of the scene has changed .",
    "the later image shows nothing new .",
    "apart from the light , the two images are alike .",
    "this place has stayed the same .",
    "there was no change between the first and the second date .",
)


def pick(rng, options):
    return options[int(rng.integers(len(options)))]


def place_phrase(rng, place: str) -> str:
    if place in EDGES:
        return pick(rng, EDGES[place])
    vertical, horizontal = place.split()
    if rng.random() < 0.4:
        vertical = {"top": "upper", "bottom": "lower"}[vertical]
    return pick(rng, CORNERS).format(v=vertical, h=horizontal)


def subject(rng, change: dict, word: str = "", definite: bool = False) -> tuple[str, bool]:
    """The thing and its number, e.g. ("three new houses", True); the second says whether it is plural."""
    singular, plural = pick(rng, NOUNS[change["kind"]])
    word = word and word + " "
    if change["count"] > 1:
        return f"{NUMBERS[change['count']]} {word}{plural}", True
    if singular is None:
        if plural.startswith("some "):
            return f"some {word}{plural[5:]}", True
        return f"{'the ' if definite and not word else ''}{word}{plural}", True
    article = "the" if definite else pick(rng, ("a", "a", "a", "one", "a single"))
    return f"{article} {word}{singular}", False


def clause(rng, change: dict) -> str:
    """One change as a clause that names what, which way, how many and where, each exactly once."""
    built, where = change["action"] == "built", place_phrase(rng, change["place"])
    if change["partial"]:
        noun = f"the {pick(rng, NOUNS['parking'])[0]}"
        done = pick(rng, PARTIAL[change["action"]])
        return pick(
            rng,
            (
                f"{noun} {where} is {done}",
                f"{noun} is {done} {where}",
                f"{noun} {where} has been {done}",
                f"{where} , {noun} has been {done}",
            ),
        )
    form = rng.random()
    if built and form < 0.22:
        noun, many = subject(rng, change, "new")
        lead = pick(rng, (f"there {'are' if many else 'is'}", "we can see", "the later image shows"))
        return f"{lead} {noun} {where}"
    noun, many = subject(
        rng, change, pick(rng, ("", "new")) if built else "", definite=not built and rng.random() < 0.4
    )
    if form < 0.4:
        verbs = (GROWS if change["kind"] == "trees" else COMES) if built else GOES
        one, more, perfect = pick(rng, verbs)
        verb = pick(rng, (more if many else one, f"{'have' if many else 'has'} {perfect}"))
        return pick(rng, (f"{noun} {verb} {where}", f"{where} , {noun} {verb}"))
    if not built and form < 0.5:
        return f"{noun} {where} {'are' if many else 'is'} {pick(rng, ('gone', 'no longer there'))}"
    done = pick(rng, DONE[change["kind"], change["action"]])
    verb = f"{pick(rng, ('are', 'were', 'have been') if many else ('is', 'was', 'has been'))} {done}"
    return pick(rng, (f"{noun} {verb} {where}", f"{noun} {verb} {where}", f"{where} , {noun} {verb}"))


def replacement(rng, built: dict, removed: dict) -> str:
    """Two changes in one place as one clause: what is built stands where the other was."""
    where = place_phrase(rng, built["place"])
    new, many = subject(rng, built, pick(rng, ("", "new")))
    old, several = subject(rng, removed, definite=rng.random() < 0.5)
    return pick(
        rng,
        (
            f"{old} {where} {'make' if several else 'makes'} way for {new}",
            f"{new} {'replace' if many else 'replaces'} {old} {where}",
            f"{where} , {old} {'are' if several else 'is'} replaced by {new}",
        ),
    )


def caption(rng, changes: list[dict], over_time: bool = False) -> str:
    """One sentence that names every change, or says that there is none; ``over_time`` for more than two dates."""
    if not changes:
        return pick(rng, UNCHANGED_OVER_TIME if over_time else UNCHANGED)
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
            text += pick(rng, LINKS) + clause(rng, change)
    opening = pick(rng, OPENINGS_OVER_TIME if over_time else OPENINGS) if rng.random() < 0.2 else ""
    return f"{opening}{text} ."


def captions(rng, changes: list[dict], over_time: bool = False, number: int = 5) -> list[str]:
    """``number`` different captions of the same changes."""
    texts: list[str] = []
    while len(texts) < number:
        text = caption(rng, changes, over_time)
        if text not in texts:
            texts.append(text)
    return texts


def inverted(change: dict) -> dict:
    """The same change seen with the dates exchanged."""
    return {**change, "action": INVERSE[change["action"]]}


def reading_order(changes: list[dict]) -> list[dict]:
    return sorted(changes, key=lambda c: (PLACES.index(c["place"]), KINDS.index(c["kind"])))
