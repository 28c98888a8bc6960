"""How well the packaged tiny model does on synthetic scenes that it has not seen, with goals beside.

    python benchmarks/tiny_quality.py                                       # the packaged model
    python benchmarks/tiny_quality.py attentive=FOLDER concat=FOLDER        # several side by side

Held-out samples: other layouts, other colours (btcchat/synthetic/palette.py), drawn from ``--seed``; every model
sees the same ones, and greedy answers make the table the same on every run.

Captions: the question of `btcchat caption`; the answer is read back into changes by ``parse_caption``.
  changed or unchanged   an answer that names any change says "changed"
  type F1                over all changes of all pairs; a change counts where kind and action (built, removed) are right
  count, place           right ones of the changes whose type is right; a count that is not said is wrong
  dates swapped          of the changes whose type is right, those turned into the opposite by swapping the dates
  claims                 precision of `btcchat eval`'s claims (captions/factuality.py), held against five references
Questions: right is an exact match after lower-casing and dropping full stops and double spaces. "most frequent" is the
score of always giving the most frequent answer of that question kind, without looking.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from btcchat import BTCChat, BTCChatError, Record, request
from btcchat.eval.captions.factuality import factuality
from btcchat.eval.encoders.markdown import table
from btcchat.generation import GenerationOptions
from btcchat.prompt import CAPTION_QUESTION
from btcchat.synthetic import SyntheticSample, make_image, make_pair, make_series, make_video, swap
from parse_captions import parse_caption

MAKE = {"pair": make_pair, "image": make_image, "series": make_series, "video": make_video}
TASKS = ("caption", "pair", "image", "series", "video")
SEED_STRIDE = 10_000_000  # as in btcchat.synthetic.write: sample i of seed s is s * stride + i
GOALS = {
    "changed or unchanged": 0.97,
    "type F1": 0.90,
    "count right": 0.80,
    "place right": 0.80,
    "dates swapped": 0.95,
    "image questions": 0.85,
    "series questions": 0.85,
    "video questions": 0.85,
}
OPPOSITE = {"built": "removed", "removed": "built"}


class Tally:
    """Right ones of all, by name, and how often each answer was the true one."""

    def __init__(self):
        self.right, self.total = Counter(), Counter()
        self.answers: dict[str, Counter] = defaultdict(Counter)
        self.captions: list[tuple[str, list[str]]] = []  # each with its references

    def add(self, name: str, right: int, total: int = 1) -> None:
        self.right[name] += right
        self.total[name] += total

    def scores(self) -> dict[str, dict]:
        found = {name: {"score": self.right[name] / n, "n": n} for name, n in self.total.items() if n}
        for name, answers in self.answers.items():
            most = max(answers.values())
            found[name]["most frequent"] = most / self.total[name]
            whole = found[name.split(", ")[0]]  # the blind score of a task: that of each of its kinds of question
            whole["most frequent"] = whole.get("most frequent", 0) + most / whole["n"]
        if self.captions:
            for kind, claims in factuality(*zip(*self.captions, strict=True)).items():
                found[f"claims: {kind}"] = {"score": (claims["precision"] or 0) / 100, "n": len(self.captions)}
        return found


def score_caption(tally: Tally, changes: list[dict], caption: str, swapped: str | None = None) -> None:
    """Compare a caption, and the caption of the swapped pair, with the true ``changes``."""
    named = parse_caption(caption)
    tally.add("changed or unchanged", bool(named) == bool(changes))
    right = 0
    for change in changes:
        hit = next((c for c in named if c[:2] == (change["kind"], change["action"])), None)
        if hit is None:
            continue
        right += 1
        named.remove(hit)
        tally.add("count right", hit[2] == change["count"])
        if change["kind"] == "house":  # the only kind that comes in more than one
            tally.add("count right, houses", hit[2] == change["count"])
        tally.add("place right", hit[3] == change["place"])
        if swapped is not None:
            opposite = (change["kind"], OPPOSITE[change["action"]])
            tally.add("dates swapped", any(c[:2] == opposite for c in parse_caption(swapped)))
    # F1 = 2 right / (named + true), so the sum of both is its total.
    tally.add("type F1", 2 * right, right + len(named) + len(changes))


def score_answer(tally: Tally, task: str, question: str, answer: str, truth: str) -> None:
    right, kind = plain(answer) == plain(truth), f"{task} questions, {question_kind(question)}"
    for name in (f"{task} questions", kind):
        tally.add(name, right)
    tally.answers[kind][plain(truth)] += 1


def plain(text: str) -> str:
    """Lower case, no full stops, single spaces."""
    return " ".join(text.lower().replace(".", " ").split())


def question_kind(question: str) -> str:
    """What kind of question it is, by its first words."""
    words = question.lower()
    if " or " in words and not words.startswith("what"):
        return "built or removed"
    kinds = {
        "how many": ("how many", "count"),
        "land cover": ("what covers", "what is the main", "which land cover"),
        "where": ("where", "in which part", "which part"),
        "when": ("when", "between which", "at which time"),
        "what": ("what",),
    }
    return next((kind for kind, starts in kinds.items() if words.startswith(starts)), "yes or no")


def draw(task: str, seed: int) -> tuple[SyntheticSample, SyntheticSample | None]:
    """Held-out sample ``seed`` of a task, and for captions its swapped twin."""
    sample = MAKE["pair" if task == "caption" else task](seed, heldout=True)
    return sample, swap(sample) if task == "caption" else None


def requests_of(task: str, sample: SyntheticSample, twin, questions: int) -> list[tuple[Record, str]]:
    """(question, true answer) of one sample; a caption has no single true answer."""
    if task == "caption":
        return [(request(CAPTION_QUESTION, "pair", pictures(one)), "") for one in (sample, twin)]
    asked = list(sample.questions)
    random.Random(sample.seed).shuffle(asked)
    source = pictures(sample)
    return [(request(q, task, source[0] if task == "image" else source), a) for q, a in asked[:questions]]


def pictures(sample: SyntheticSample) -> list[Image.Image]:
    return [Image.fromarray(image) for image in sample.images]


def in_batches(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def run(models: dict[str, BTCChat], task: str, options: argparse.Namespace, tallies: dict[str, Tally], pool) -> None:
    """Ask every model everything of one task; the samples are drawn once, in another process."""
    seeds = range(options.seed * SEED_STRIDE, options.seed * SEED_STRIDE + options.samples)
    limit = 96 if task == "caption" else 48
    drawn = pool.imap(partial(draw, task), seeds, chunksize=4)
    per_sample = 2 if task == "caption" else options.questions
    for batch in in_batches(drawn, max(1, options.batch // per_sample)):
        asked = [requests_of(task, sample, twin, options.questions) for sample, twin in batch]
        for name, model in models.items():
            flat = [record for group in asked for record, _ in group]
            answers = iter(model.answer(flat, GenerationOptions(limit)))
            for (sample, _), group in zip(batch, asked, strict=True):
                replies = list(islice(answers, len(group)))
                if task == "caption":
                    score_caption(tallies[name], sample.truth["changes"], *replies)
                    tallies[name].captions.append((replies[0], sample.captions))
                    continue
                for (record, truth), reply in zip(group, replies, strict=True):
                    score_answer(tallies[name], task, record.conversations[-1]["value"], reply, truth)


def report(scores: dict[str, dict]) -> str:
    """The table: a row a measure, a column a model."""
    models = list(scores)
    names = list(dict.fromkeys(name for found in scores.values() for name in found))
    names.sort(key=lambda name: (list(GOALS).index(name.split(", ")[0]) if name.split(", ")[0] in GOALS else 99, name))
    rows = []
    for name in names:
        first = scores[models[0]][name]
        goal = GOALS.get(name)
        cells = [f"{scores[m][name]['score']:.3f}" + _mark(scores[m][name]["score"], goal) for m in models]
        label = "- " + name.split(", ", 1)[1] if ", " in name else name
        blind = f"{first['most frequent']:.3f}" if "most frequent" in first else ""
        counts = " / ".join(dict.fromkeys(str(scores[m][name]["n"]) for m in models))
        rows.append((label, f"{goal:.2f}" if goal else "", *cells, blind, counts))
    return table(["held-out synthetic scenes", "goal", *models, "most frequent", "n"], rows)


def _mark(score: float, goal: float | None) -> str:
    return "" if goal is None else " met" if score >= goal else " missed"


def load(names: list[str], options: argparse.Namespace) -> dict[str, BTCChat]:
    """``name=folder`` or ``folder`` -> models by name; without any, the packaged one."""
    models = {}
    for item in names or [""]:
        name, _, path = item.rpartition("=")
        try:
            model = BTCChat.from_pretrained(path or None, device=options.device)
        except BTCChatError as error:
            sys.exit(f"tiny_quality.py: error: {error}")
        name = name or model.config.change_encoder["change_encoder_type"]
        if name in models:
            sys.exit(f"tiny_quality.py: error: two models are called {name}; name them: NAME=FOLDER")
        models[name] = model
    return models


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="NAME=FOLDER or FOLDER; default: the packaged model")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="what to measure (default: all)")
    parser.add_argument("--samples", type=int, default=1000, help="held-out samples a task")
    parser.add_argument("--questions", type=int, default=1, help="questions asked about each sample")
    parser.add_argument("--batch", type=int, default=32, help="requests in a batch")
    parser.add_argument("--seed", type=int, default=900, help="which held-out samples")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--out", type=Path, help="write all scores here as JSON")
    options = parser.parse_args(arguments)
    models = load(options.models, options)
    tallies = {name: Tally() for name in models}
    with get_context("spawn").Pool(1) as pool:
        for task in options.tasks:
            start = time.perf_counter()
            run(models, task, options, tallies, pool)
            print(f"{task}: {options.samples} samples in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    scores = {name: tally.scores() for name, tally in tallies.items()}
    print(report(scores))
    if options.out:
        said = {name: getattr(options, name) for name in ("samples", "questions", "seed")}
        options.out.write_text(json.dumps(said | {"goals": GOALS, "models": scores}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
