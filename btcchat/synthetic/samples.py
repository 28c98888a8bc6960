"""The samples: one scene, a pair, a series or a video, each with its truth, captions and questions."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random import Generator

from btcchat.synthetic.answers import Contents, describe, describe_pair
from btcchat.synthetic.captions import captions, scene_captions
from btcchat.synthetic.changes import Change, inverted, reading_order
from btcchat.synthetic.edits import build_site, draw_events
from btcchat.synthetic.phrasing import Question
from btcchat.synthetic.questions import image_questions, pair_questions, time_questions
from btcchat.synthetic.render import Renderer, draw_conditions
from btcchat.synthetic.scene import CELL, KINDS, PLACES, SIZE, Site, footprint

TASKS = ("image", "pair", "series", "video")


@dataclass(frozen=True, eq=False)
class SyntheticSample:
    """A synthetic sample of one task ("image" | "pair" | "series" | "video").

    images: uint8 (256, 256, 3) for each date, the earliest first. mask: bool (256, 256), what changed.
    truth of a pair, series or video: ``{"changed": bool, "changes": [Change]}``; a pair also has ``background`` and
    ``places`` for both dates. truth of an image: ``{"background", "cover", "places": {place: {kind: count}}}``.
    questions: what can be asked, each with its one answer. description: the dense text of the first image; in a pair it
    also says what is in a place ``then``, if the place changed.
    """

    task: str
    seed: int
    heldout: bool
    images: list[np.ndarray]
    mask: np.ndarray
    truth: dict[str, Any]
    captions: list[str]
    questions: list[Question]
    description: str = field(default="")


def generator(task: str, seed: int, heldout: bool, stream: int = 0) -> Generator:
    """The random numbers of one sample.

    Task, split and stream are part of the seed sequence, so that no two of them ever share scenes.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(TASKS.index(task), int(heldout), stream)))


def make_image(seed: int, heldout: bool = False) -> SyntheticSample:
    """One scene: dense description, captions, questions on presence, number, cover and place."""
    rng = generator("image", seed, heldout)
    site, _, mask = build_site(rng, 1, [], heldout=heldout)
    image = Renderer(site, rng.random(16)).render(0, draw_conditions(rng))
    truth = scene_truth(site, 0)
    words = generator("image", seed, heldout, 1)
    return SyntheticSample(
        "image",
        seed,
        heldout,
        [image],
        mask,
        truth,
        captions=scene_captions(words, truth["cover"] or truth["background"], truth["places"]),
        questions=image_questions(words, truth["cover"], truth["places"]),
        description=describe(truth["background"], truth["places"]),
    )


def make_pair(seed: int, *, heldout: bool = False) -> SyntheticSample:
    """A before/after pair of one place. Half of the seeds are unchanged; the others have 1 to 3 kinds of change.

    Held-out scenes come from another branch of the seed sequence (never the same layout) and other
    colour families (palette.HELD_OUT: maroon, slate, ochre and cream roofs, green and cream halls,
    yellower or bluer grass, redder or paler soil, greener or darker water).
    """
    rng = generator("pair", seed, heldout)
    number = int(rng.choice([1, 2, 3], p=[0.5, 0.38, 0.12])) if rng.random() < 0.5 else 0
    site, changes, mask = build_site(rng, 2, draw_events(rng, number, [0] * number), heldout=heldout)
    renderer = Renderer(site, rng.random(16))
    images = [renderer.render(date, draw_conditions(rng)) for date in range(2)]
    places = contents(site, 0), contents(site, 1)
    return _pair(seed, heldout, images, mask, changes, site.background, places)


def _pair(
    seed: int,
    heldout: bool,
    images: list[np.ndarray],
    mask: np.ndarray,
    changes: list[Change],
    background: str,
    places: tuple[Contents, Contents],
    stream: int = 1,
) -> SyntheticSample:
    words = generator("pair", seed, heldout, stream)
    changes = reading_order(changes)
    truth = {"changed": bool(changes), "changes": changes, "background": background, "places": list(places)}
    return SyntheticSample(
        "pair",
        seed,
        heldout,
        images,
        mask,
        truth,
        captions(words, changes),
        pair_questions(words, changes, places),
        describe_pair(background, *places, changes),
    )


def swap(sample: SyntheticSample) -> SyntheticSample:
    """A pair with before and after exchanged: built becomes removed and the other way round."""
    truth = sample.truth
    changes = [inverted(change) for change in truth["changes"]]
    before, after = truth["places"]
    images, places = sample.images[::-1], (after, before)
    return _pair(sample.seed, sample.heldout, images, sample.mask, changes, truth["background"], places, stream=2)


def make_series(seed: int, n_dates: int | None = None, *, heldout: bool = False) -> SyntheticSample:
    """A place at 3 to 5 dates (``n_dates``, by default drawn) with one event, sometimes two or none."""
    rng = generator("series", seed, heldout)
    drawn = int(rng.integers(3, 6))
    return _over_time("series", rng, seed, heldout, n_dates or drawn, list(range((n_dates or drawn) - 1)), calm=1.0)


def make_video(seed: int, n_frames: int = 8, *, heldout: bool = False) -> SyntheticSample:
    """A place over ``n_frames`` (>= 4) frames with one event, sometimes two or none, never at the middle."""
    rng = generator("video", seed, heldout)
    steps = [step for step in range(n_frames - 1) if 2 * step != n_frames - 2]
    return _over_time("video", rng, seed, heldout, n_frames, steps, calm=0.5)


def _over_time(
    task: str, rng: Generator, seed: int, heldout: bool, dates: int, steps: list[int], calm: float
) -> SyntheticSample:
    """A series or a video: events at some of ``steps``, ``calm`` conditions."""
    number = int(rng.choice([0, 1, 2], p=[0.12, 0.63, 0.25]))
    at = sorted(int(step) for step in rng.permutation(steps)[:number])
    site, changes, mask = build_site(rng, dates, draw_events(rng, len(at), at), heldout=heldout)
    renderer = Renderer(site, rng.random(16))
    images = [renderer.render(date, draw_conditions(rng, calm)) for date in range(dates)]
    words = generator(task, seed, heldout, 1)
    truth = {"changed": bool(changes), "changes": changes}
    return SyntheticSample(
        task,
        seed,
        heldout,
        images,
        mask,
        truth,
        captions(words, changes, over_time=True),
        time_questions(words, changes, dates, video=task == "video"),
        describe(site.background, contents(site, 0)),
    )


def contents(site: Site, date: int) -> Contents:
    """What is in each place at a date, kinds in the order of KINDS.

    A road is in every place that it runs through for more than a third of the place's side.
    """
    places: Contents = {place: {} for place in PLACES}
    for kind in KINDS:
        for thing in site.at(date):
            if thing.kind != kind:
                continue
            if kind == "road":
                inside = thing.points[((thing.points >= 0) & (thing.points < SIZE)).all(1)]
                cells = (inside[:, 1] // CELL).astype(int) * 3 + (inside[:, 0] // CELL).astype(int)
                length = np.hypot(*np.diff(thing.points, axis=0).T).sum() / (len(thing.points) - 1)
                for cell, steps in zip(*np.unique(cells, return_counts=True), strict=True):
                    if steps * length > CELL / 3:
                        places[PLACES[cell]][kind] = 1
            elif kind == "house":
                places[PLACES[thing.place]][kind] = places[PLACES[thing.place]].get(kind, 0) + 1
            else:
                places[PLACES[thing.place]][kind] = 1
    return places


def scene_truth(site: Site, date: int) -> dict[str, Any]:
    """``{"background", "cover", "places"}``; cover is None if no land cover clearly dominates."""
    forest = footprint([t for t in site.at(date) if t.kind == "trees"], 64).mean()
    built = footprint([t for t in site.at(date) if t.kind != "trees"], 64).mean()
    ground = 1 - forest - built
    cover = site.background if ground > 1.4 * forest else "forest" if forest > 1.4 * ground else None
    return {"background": site.background, "cover": cover, "places": contents(site, date)}
