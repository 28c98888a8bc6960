"""The packaged tiny model works on held-out synthetic scenes. benchmarks/tiny_quality.py prints the figures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import btcchat
from btcchat import BTCChat, request
from btcchat.generation import GenerationOptions
from btcchat.prompt import CAPTION_QUESTION
from btcchat.synthetic import make_image, make_pair, swap
from parse_captions import parse_caption

ASSETS = Path(btcchat.__file__).parent / "assets"
OPPOSITE = {"built": "removed", "removed": "built"}


@pytest.fixture(scope="module")
def model():
    return BTCChat.from_pretrained(device="cpu")


def captions(model, samples) -> list[str]:
    pairs = [[Image.fromarray(image) for image in sample.images] for sample in samples]
    return model.answer([request(CAPTION_QUESTION, "pair", pair) for pair in pairs], GenerationOptions(60))


def test_its_weights_are_small():
    files = list((ASSETS / "tiny").rglob("*.safetensors"))
    assert len(files) == 3 and sum(file.stat().st_size for file in files) <= 12e6


def test_the_example_pair_is_described_correctly(model):
    named = parse_caption(model.caption(ASSETS / "example" / "before.png", ASSETS / "example" / "after.png"))
    assert sorted(c[:2] for c in named) == [("pond", "removed"), ("trees", "built")]


@pytest.mark.slow
def test_it_distinguishes_changed_from_unchanged_and_built_from_removed(model):
    samples = [make_pair(seed, heldout=True) for seed in range(5_000, 5_256)]
    answers, answers_swapped = captions(model, samples), captions(model, [swap(sample) for sample in samples])
    right = [
        bool(parse_caption(text)) == sample.truth["changed"] for text, sample in zip(answers, samples, strict=True)
    ]
    assert sum(right) >= 0.97 * len(samples), answers
    inverted, found = 0, 0
    for sample, text, swapped in zip(samples, answers, answers_swapped, strict=True):
        for change in sample.truth["changes"]:
            if (change["kind"], change["action"]) in [c[:2] for c in parse_caption(text)]:
                found += 1
                inverted += (change["kind"], OPPOSITE[change["action"]]) in [c[:2] for c in parse_caption(swapped)]
    assert found >= 96 and inverted >= 0.85 * found, (found, inverted)


@pytest.mark.slow
def test_it_answers_questions_about_one_image(model):
    samples = [make_image(seed, heldout=True) for seed in range(5_000, 5_032)]
    asked = [(sample.images[0], sample.questions[seed % 4]) for seed, sample in enumerate(samples)]
    rng = np.random.default_rng(0)
    records = [request(question.worded(rng), "image", Image.fromarray(image)) for image, question in asked]
    answers = model.answer(records, GenerationOptions(30))
    assert sum(text == question.answer for text, (_, question) in zip(answers, asked, strict=True)) >= 22
