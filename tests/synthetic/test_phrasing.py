"""Wordings of questions: many, split, filled in and mistyped."""

import re
from itertools import chain

import numpy as np

from btcchat.synthetic import make_image, make_pair, make_series, make_video
from btcchat.synthetic.dialogues import dialogues
from btcchat.synthetic.phrasing import expanded, mistyped, typed, wordings

MAKERS = (make_image, make_pair, make_series, make_video)


def bare(text):
    return re.sub(r"[^a-z{}_ ]", "", text.lower()).strip()


def test_there_are_three_hundred_wordings_and_each_kind_has_some_of_both_splits():
    tables = [{split: list(chain(*entries)) for split, entries in table.items()} for table in wordings().values()]
    assert sum(len(texts) for table in tables for texts in table.values()) >= 1000
    assert all(len(table["train"]) >= 12 and len(table["test"]) >= 4 for table in tables)


def test_words_around_a_question_keep_it():
    rng = np.random.default_rng(0)
    found = {typed(rng, "Is there a pond?", "test") for _ in range(400)}
    assert {"Hi there, is there a pond?", "Is there a pond? Thank you!"} <= found


def test_no_wording_of_the_test_split_is_trained_in_any_kind():
    trained = {bare(text) for table in wordings().values() for text in chain(*table["train"])}
    for kind, table in wordings().items():
        assert not {bare(text) for text in chain(*table["test"])} & trained, kind
        assert len(list(chain(*table["test"]))) == len({*map(bare, chain(*table["test"]))}), kind


def test_an_entry_stands_for_all_of_its_combinations():
    assert expanded("(Is|Was) it (|so )red?") == ["Is it red?", "Is it so red?", "Was it red?", "Was it so red?"]
    assert expanded("Is it red?") == ["Is it red?"]


def test_no_chat_asks_what_is_only_tested(undrawn):
    asked, tested = set(), set()
    for seed in range(60):
        for sample in (make(seed) for make in MAKERS):
            asked |= {bare(text) for _, _, turns in dialogues(sample) for text, _ in turns}
            tested |= {bare(text) for question in sample.questions for text in question.all_worded("test")}
    assert len(tested) > 800 and not asked & tested


def test_every_kind_is_asked_and_every_wording_can_be_filled_in(undrawn):
    kinds = set()
    for seed in range(80):
        for make in MAKERS:
            for question in make(seed).questions:
                kinds.add(question.kind)
                for split in ("train", "test"):
                    assert not re.search("[{}]", " ".join(question.all_worded(split)))
    assert kinds == set(wordings()) - {"around"}


def test_a_negated_question_has_the_opposite_answer(undrawn):
    for seed in range(40):
        pair = make_pair(seed)
        by_slots = {}
        for question in pair.questions:
            if question.kind in ("was", "was_not"):
                by_slots.setdefault(tuple(question.slots.items()), []).append(question.answer)
        assert all(sorted(answers) == ["no", "yes"] for answers in by_slots.values())


def test_a_slip_changes_one_word_and_keeps_its_first_and_last_letter():
    rng = np.random.default_rng(0)
    text = "How many houses were built in the meantime?"
    changed = 0
    for _ in range(50):
        pairs = [(a, b) for a, b in zip(text.split(), mistyped(rng, text).split(), strict=True) if a != b]
        assert len(pairs) <= 1 and all(a[0] == b[0] and a[-1] == b[-1] for a, b in pairs)
        changed += len(pairs)
    assert changed > 40
    assert mistyped(rng, "is it so?") == "is it so?"


def test_most_questions_are_typed_as_they_are_written():
    rng = np.random.default_rng(0)
    same = sum(typed(rng, "Were houses built?") == "Were houses built?" for _ in range(1000))
    assert 550 < same < 750
