"""Whatever question README, the docs, the help and the page show, the packaged model answers it truly on its examples.

If a question has no known answer, add its wording to `later` in btcchat/assets/synthetic/questions.yaml. If an answer
is wrong, train the packaged model again, choose another example (scripts/v1_5/tiny/) or show another question.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from btcchat import BTCChat
from btcchat.commands.caption import EXAMPLE
from btcchat.synthetic import make_pair, make_series, make_video
from btcchat.synthetic.__main__ import main
from btcchat.synthetic.answers import plain_caption, plain_scene
from btcchat.synthetic.phrasing import Question
from btcchat.synthetic.questions import image_questions, pair_questions, time_questions
from btcchat.synthetic.words import words
from btcchat.synthetic.write import SEED_STRIDE
from scripts.v1_5.tiny.package import EXAMPLE_SEED
from scripts.v1_5.tiny.page_examples import SERIES_SEED, VIDEO_SEED

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = ROOT / "docs" / "tutorial_analyst.md"  # its questions are about a pair that it draws
TUTORIAL_SEED, TUTORIAL_PAIR = 7, 5  # of that pair: `--seed`, and the number in its name
PAGE = ROOT / "btcchat" / "serve" / "page"
MODALITIES = "image|pair|series|video"
MEDIA = {
    "pair": [EXAMPLE / "before.png", EXAMPLE / "after.png"],
    "image": EXAMPLE / "after.png",
    "series": [PAGE / "examples" / f"{year}.webp" for year in (2016, 2019, 2022)],
    "video": PAGE / "examples" / "clip.webm",
}
DRAWS = 60  # of questions about a sample, until each was drawn


def shown() -> Iterator[tuple[str, str]]:
    """(modality, question) of everything that is shown."""
    files = {ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "btcchat").rglob("*.py")} - {TUTORIAL}
    for text in (file.read_text(encoding="utf-8") for file in sorted(files)):
        for question, modality, rest in re.findall(rf'btcchat ask "([^"]+)" --({MODALITIES}) (.*)', text):
            if "--model" not in rest:
                yield modality, question
        for question, modality in re.findall(rf'\.(?:ask|stream)\("([^"]+)", ({MODALITIES})=', text):
            yield modality, question
        for question, modality in re.findall(rf'request\("([^"]+)", "({MODALITIES})"', text):
            yield modality, question
        for question, modality in re.findall(rf'"text": "([^"]+)".*?"modality": "({MODALITIES})"', text, re.DOTALL):
            yield modality, question
    for modality, questions in page_questions().items():
        yield from ((modality, question) for question in questions)


def page_questions() -> dict[str, list[str]]:
    """The questions that the page offers for each modality, and the one in its picture."""
    page = (PAGE / "state.js").read_text(encoding="utf-8")
    found = re.findall(rf"  ({MODALITIES}): {{.*?questions: \[(.*?)\]", page, re.DOTALL)
    offered = {modality: re.findall('"([^"]+)"', questions) for modality, questions in found}
    picture = (ROOT / "docs" / "make_page_picture.py").read_text(encoding="utf-8")
    offered["pair"].append(re.search(r'^QUESTION = "(.*)"', picture, re.MULTILINE)[1])
    return offered


SHOWN = sorted(set(shown()))


def answers(modality: str) -> dict[str, str]:
    """Question -> true answer on the example of a modality."""
    requests = words()["requests"]
    if modality in ("pair", "image"):
        truth = make_pair(EXAMPLE_SEED, heldout=True).truth
    if modality == "pair":
        return pair_answers(truth)
    if modality == "image":
        cover, places = truth["background"], truth["places"][1]
        known = dict.fromkeys(requests["scene"], plain_scene(cover, places))
        drawn = [image_questions(np.random.default_rng(n), cover, places) for n in range(DRAWS)]
    else:
        video = modality == "video"
        sample = make_video(VIDEO_SEED, heldout=True) if video else make_series(SERIES_SEED, heldout=True)
        changes, dates = sample.truth["changes"], len(sample.images)
        known = dict.fromkeys(requests["time"], plain_caption(changes, dates, video=video))
        drawn = [time_questions(np.random.default_rng(n), changes, dates, video=video) for n in range(DRAWS)]
    return known | worded(drawn)


def pair_answers(truth: dict[str, Any]) -> dict[str, str]:
    """Question -> true answer on a pair."""
    changes = truth["changes"]
    drawn = [pair_questions(np.random.default_rng(n), changes, tuple(truth["places"])) for n in range(DRAWS)]
    return dict.fromkeys(words()["requests"]["changes"], plain_caption(changes)) | worded(drawn)


def worded(drawn: list[list[Question]]) -> dict[str, str]:
    """All wordings of the questions, with their answers."""
    return {text: question.answer for questions in drawn for question in questions for text in question.all_worded()}


@pytest.fixture(scope="module")
def model() -> BTCChat:
    return BTCChat.from_pretrained(device="cpu")


def test_the_questions_of_all_pages_are_found():
    assert {modality for modality, _ in SHOWN} == set(MODALITIES.split("|"))
    assert {("pair", "What changed?"), ("pair", "How many houses were built?")} < {*SHOWN}
    assert len(SHOWN) >= 12


@pytest.mark.parametrize("modality", MODALITIES.split("|"))
def test_a_shown_question_is_in_a_wording_that_is_trained(modality):
    known = answers(modality)
    assert [question for kind, question in SHOWN if kind == modality and question not in known] == []


@pytest.mark.parametrize(("modality", "question"), SHOWN)
def test_a_shown_question_is_answered_truly_on_the_example(model, modality, question):
    assert model.ask(question, **{modality: MEDIA[modality]}) == answers(modality)[question]


def test_the_pages_questions_about_a_pair_are_also_answered_truly_after_its_caption(model):
    said = {"from": "gpt", "value": model.caption(*MEDIA["pair"])}
    history = [{"from": "human", "value": model.config.caption_question}, said]
    known, asked = answers("pair"), page_questions()["pair"]
    assert {text: model.ask(text, pair=MEDIA["pair"], history=history) for text in asked} == {
        text: known[text] for text in asked
    }


def test_the_questions_of_the_tutorial_are_answered_truly_on_the_pair_that_it_draws(model, tmp_path):
    assert (
        main(["--out", str(tmp_path / "drawn"), "--pairs", str(TUTORIAL_PAIR + 1), "--seed", str(TUTORIAL_SEED)]) == 0
    )
    pair = [tmp_path / "drawn" / "pairs" / f"{TUTORIAL_PAIR:06}_{date}.jpg" for date in ("before", "after")]
    known = pair_answers(make_pair(TUTORIAL_SEED * SEED_STRIDE + TUTORIAL_PAIR).truth)
    questions = re.findall(rf'btcchat ask "([^"]+)" --pair drawn/pairs/{TUTORIAL_PAIR:06}', TUTORIAL.read_text("utf-8"))
    assert len(questions) == 3
    assert {text: model.ask(text, pair=pair) for text in questions} == {text: known[text] for text in questions}
