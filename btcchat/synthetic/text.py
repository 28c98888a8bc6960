"""The text that the tiny model's tokenizer is trained on."""

from collections.abc import Iterator
from itertools import chain

from numpy.random import Generator

from btcchat.synthetic.answers import describe
from btcchat.synthetic.captions import captions, scene_captions
from btcchat.synthetic.changes import Change, reading_order
from btcchat.synthetic.phrasing import wordings
from btcchat.synthetic.questions import image_questions, pair_questions, time_questions
from btcchat.synthetic.samples import generator
from btcchat.synthetic.scene import KINDS, PLACES
from btcchat.synthetic.unknown import unknown_question
from btcchat.synthetic.words import sentences, words

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def corpus(seed: int, samples: int = 1500) -> Iterator[str]:
    """Yield lines of text: the prompt's own words, ordinary sentences, requests, and the words of random scenes.

    These are the captions, questions and answers of ``samples`` scenes; no image is drawn.
    """
    yield from (
        SYSTEM,
        "USER:",
        "ASSISTANT:",
        f"{SYSTEM} USER: Describe the changes. ASSISTANT: nothing has changed here .",
    )
    yield from sentences()
    yield from chain.from_iterable(words()["requests"].values())
    yield from chain.from_iterable(wordings()["around"]["tokenizer"])
    for sample in range(samples):
        rng = generator("image", seed, False, 1000 + sample)
        homes = rng.permutation(9)[:2]
        places = {place: _contents(rng, houses=index in homes) for index, place in enumerate(PLACES)}
        cover = str(rng.choice(["grass", "soil", "forest"]))
        yield describe(cover, places)
        yield from scene_captions(rng, cover, places)
        changes = _changes(rng)
        yield from captions(rng, changes)
        yield from captions(rng, changes, over_time=True)
        for question in (
            *image_questions(rng, cover, places),
            *pair_questions(rng, changes, (places, places)),
            *time_questions(rng, changes, 5, video=bool(rng.random() < 0.5)),
        ):
            yield f"{question.worded(rng, 'tokenizer')} {question.answer}"
        yield " ".join(unknown_question(rng, "tokenizer"))


def _contents(rng: Generator, houses: bool) -> dict[str, int]:
    kinds = sorted(
        map(str, rng.permutation(KINDS if houses else KINDS[1:])[: int(rng.integers(0, 3))]), key=KINDS.index
    )
    return {kind: int(rng.integers(1, 6)) if kind == "house" else 1 for kind in kinds}


def _changes(rng: Generator) -> list[Change]:
    drawn: list[Change] = []
    for step, kind in enumerate(map(str, rng.permutation(KINDS)[: int(rng.integers(0, 4))])):
        partial = bool(kind == "parking" and rng.random() < 0.4)
        drawn.append(
            {
                "kind": kind,
                "action": str(rng.choice(["built", "removed"])),
                "count": int(rng.integers(1, 6)) if kind == "house" else 1,
                "place": str(rng.choice(PLACES)),
                "step": step,
                "partial": partial,
            }
        )
    return reading_order(drawn)
