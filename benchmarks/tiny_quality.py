"""How well the packaged tiny model does on synthetic scenes that it has not seen, with goals beside.

    python benchmarks/tiny_quality.py                                       # the packaged model
    python benchmarks/tiny_quality.py attentive=FOLDER concat=FOLDER        # several side by side
    python benchmarks/tiny_quality.py --samples 100 --tasks pair unknown    # a short look

Held-out samples: other layouts, other colours (btcchat/synthetic/palette.py), drawn from ``--seed``; every model
sees the same ones, and greedy answers make the table the same on every run.

caption      the question of `btcchat caption`; the answer is read back into changes by ``parse_caption``.
  changed or unchanged   an answer that names any change says "changed"
  type F1                over all changes of all pairs; a change counts where kind and action (built, removed) are right
  count, place           right ones of the changes whose type is right; a count that is not said is wrong
  dates swapped          of the changes whose type is right, those turned into the opposite by swapping the dates
  claims                 precision of `btcchat eval`'s claims (captions/factuality.py), held against five references
pair, image, series, video   questions in wordings that were never trained on (assets/synthetic/questions.yaml), typed
  with a slip now and then; beside them the same questions in trained wordings, which may be 3 points better. Right is
  an exact match after lower-casing and dropping full stops and double spaces. "most frequent" is the score of always
  giving the most frequent answer of that kind of question, without looking.
consistency  questions on a pair whose answer follows from the model's own caption of it, right or wrong
unknown      questions that the scenes have no answer to, about other things than those trained on; refused is an answer
  that begins with "I cannot tell". Answerable ones that are refused are counted in the tasks above.
map          IoU of the change map at the model's own threshold with the masks, over the pixels of all pairs
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from btcchat import BTCChat, BTCChatError, Record, request
from btcchat.generation import GenerationOptions
from btcchat.prompt import CAPTION_QUESTION
from btcchat.synthetic import SyntheticSample, make_image, make_pair, make_series, make_video, swap
from btcchat.synthetic.phrasing import Question, Split, typed
from btcchat.synthetic.questions import pair_questions
from btcchat.synthetic.unknown import unknown_question
from tiny_tally import GOALS, Tally, changes_named, plain, refuses, report, score_answer, score_caption, score_map

MAKE = {"pair": make_pair, "image": make_image, "series": make_series, "video": make_video}
QUESTIONS = ("pair", "image", "series", "video")
TASKS = ("caption", *QUESTIONS, "consistency", "unknown", "map")
SEED_STRIDE = 10_000_000  # as in btcchat.synthetic.write: sample i of seed s is s * stride + i
SPLITS: tuple[Split, Split] = ("test", "train")
LONGEST = 96  # tokens of an answer

Drawn = list[SyntheticSample]


def draw(task: str, seed: int) -> tuple[SyntheticSample, SyntheticSample | None]:
    """Held-out sample ``seed`` of a task, and for captions its swapped twin."""
    kind = task if task in MAKE else "image" if task == "unknown" and seed % 2 else "pair"
    sample = MAKE[kind](seed, heldout=True)
    return sample, swap(sample) if task == "caption" else None


def captions(model: BTCChat, tally: Tally, samples: Drawn, twins: Drawn, questions: int) -> None:
    said, swapped = (
        model.answer([caption_request(one) for one in group], GenerationOptions(LONGEST)) for group in (samples, twins)
    )
    for sample, caption, other in zip(samples, said, swapped, strict=True):
        score_caption(tally, sample.truth["changes"], caption, other)
        tally.captions.append((caption, sample.captions))


def answers(model: BTCChat, tally: Tally, samples: Drawn, twins: Drawn, questions: int) -> None:
    """Each drawn question in two wordings: one that was never trained on, and one that was."""
    chosen = [(sample, question) for sample in samples for question in some(sample.seed, sample.questions, questions)]
    records = [ask(*one, split) for one in chosen for split in SPLITS]
    said = iter(model.answer(records, GenerationOptions(LONGEST)))
    for (sample, question), answer, trained in zip(chosen, said, said, strict=False):
        score_answer(tally, sample.task, question.kind, question.answer, answer, trained)


def consistency(model: BTCChat, tally: Tally, samples: Drawn, twins: Drawn, questions: int) -> None:
    """Ask what the model's own caption of a pair answers."""
    said = model.answer([caption_request(sample) for sample in samples], GenerationOptions(LONGEST))
    chosen = []
    for sample, caption in zip(samples, said, strict=True):
        if (named := changes_named(caption)) is None:
            tally.add("consistent with the caption", 0, questions)
        else:
            possible = pair_questions(np.random.default_rng(sample.seed), named)
            chosen += [(sample, question) for question in some(sample.seed, possible, questions)]
    found = model.answer([ask(*one, "test") for one in chosen], GenerationOptions(LONGEST))
    for (_, question), answer in zip(chosen, found, strict=True):
        tally.add("consistent with the caption", plain(answer) == plain(question.answer))


def unknown(model: BTCChat, tally: Tally, samples: Drawn, twins: Drawn, questions: int) -> None:
    records = []
    for sample in samples:
        rng = np.random.default_rng(sample.seed)
        records += [asked(sample, typed(rng, unknown_question(rng, "test")[0], "test")) for _ in range(questions)]
    for answer in model.answer(records, GenerationOptions(LONGEST)):
        tally.add("unanswerable questions refused", refuses(answer))


def maps(model: BTCChat, tally: Tally, samples: Drawn, twins: Drawn, questions: int) -> None:
    threshold = (model.config.change_threshold or {"value": 0.5})["value"]
    for sample in samples:
        score_map(tally, model.change_map(*sample.images), sample.mask, threshold)


MEASURE: dict[str, Callable[[BTCChat, Tally, Drawn, Drawn, int], None]] = {
    "caption": captions,
    **dict.fromkeys(QUESTIONS, answers),
    "consistency": consistency,
    "unknown": unknown,
    "map": maps,
}


def some(seed: int, questions: list[Question], number: int) -> list[Question]:
    """``number`` of the questions, always the same ones."""
    return random.Random(seed).sample(questions, min(number, len(questions)))


def ask(sample: SyntheticSample, question: Question, split: Split) -> Record:
    """The question in a wording of ``split``, typed as people type, the same on every run."""
    rng = np.random.default_rng([sample.seed, SPLITS.index(split)])
    return asked(sample, typed(rng, question.worded(rng, split), split))


def asked(sample: SyntheticSample, text: str) -> Record:
    source = pictures(sample)
    return request(text, sample.task, source[0] if sample.task == "image" else source)


def caption_request(sample: SyntheticSample) -> Record:
    return request(CAPTION_QUESTION, "pair", pictures(sample))


def pictures(sample: SyntheticSample) -> list[Image.Image]:
    return [Image.fromarray(image) for image in sample.images]


def in_batches(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def run(models: dict[str, BTCChat], task: str, options: argparse.Namespace, tallies: dict[str, Tally], pool) -> None:
    """Ask every model everything of one task; the samples are drawn once, in another process."""
    seeds = range(options.seed * SEED_STRIDE, options.seed * SEED_STRIDE + options.samples)
    drawn = pool.imap(partial(draw, task), seeds, chunksize=4)
    for batch in in_batches(drawn, max(1, options.batch // (2 * options.questions))):
        samples, twins = map(list, zip(*batch, strict=True))
        for name, model in models.items():
            MEASURE[task](model, tallies[name], samples, twins, options.questions)


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
