"""Questions that the scenes have no answer to."""

import re

import numpy as np

from btcchat.synthetic import make_pair
from btcchat.synthetic.dialogues import chat
from btcchat.synthetic.unknown import unknown, unknown_question, unknown_things, unknown_wordings
from btcchat.synthetic.words import words


def plain(text):
    return re.sub(r"[^a-z{} ]", "", text.lower())


def drawn(split, number=2000):
    rng = np.random.default_rng(0)
    return [unknown_question(rng, split) for _ in range(number)]


def test_they_all_have_one_honest_answer():
    assert {answer for split in ("train", "test") for _, answer in drawn(split)} == {unknown()["answer"]}
    assert unknown()["answer"].startswith("I cannot tell")


def test_things_and_wordings_of_the_test_are_not_trained():
    for table in ("about_things", "about_known", "general"):
        trained, tested = (
            {plain(text) for entry in unknown_wordings(table, split) for text in entry} for split in ("train", "test")
        )
        assert not trained & tested and len(trained) > 10 * len(tested)
    trained, tested = ({name for names in unknown_things(split) for name in names} for split in ("train", "test"))
    assert not trained & tested and len(tested) > 60
    asked, held_out = ({text.lower() for text, _ in drawn(split)} for split in ("train", "test"))
    assert not asked & held_out and len(held_out) > 300
    word = re.compile(rf"\b(?:{'|'.join(trained)})\b")
    assert [text for text in held_out if word.search(text)] == []


def test_no_thing_of_the_scenes_is_among_them():
    known = {name for forms in words()["nouns"].values() for form in forms for name in form if name}
    known |= {*words()["one"].values(), *words()["many"].values()}
    for split in ("train", "test"):
        assert not known & {name for names in unknown_things(split) for name in names}


def test_articles_and_plurals_are_right():
    assert ("church", "churches") in unknown_things("train") and ("aircraft", "aircraft") in unknown_things("train")
    texts = [text for text, _ in drawn("train")]
    assert not any("{" in text or " a island" in text or " a elephant" in text for text in texts)
    assert any(text.startswith("Is there an ") for text in texts)


def test_one_question_of_six_in_a_chat_is_one(undrawn):
    turns = [turn for seed in range(300) for turn in chat(make_pair(seed))]
    share = sum(answer == unknown()["answer"] for _, answer in turns) / len(turns)
    assert 0.11 < share < 0.17  # the captions of the chats are turns too
