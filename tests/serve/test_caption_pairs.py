"""Captions of many pairs: reading ahead, and pairs that cannot be read."""

import threading

import numpy as np
import pytest
from PIL import Image

from btcchat.data.pairs import read_pairs
from btcchat.generation import GenerationOptions
from btcchat.serve import batch
from btcchat.serve.batch import Answers, caption_pairs
from tests.fake_model import FakeModel


@pytest.fixture
def pairs(tmp_path):
    rows = ["before,after"]
    for number in range(6):
        Image.fromarray(np.full((4, 4 + number, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{number}.png")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    found, faults = read_pairs(str(tmp_path / "list.csv"))
    assert not faults
    return found


def caption(model, pairs, tmp_path) -> list[str | None]:
    with Answers(tmp_path / "out.jsonl", model="fake") as answers:
        return list(caption_pairs(model, pairs, answers, GenerationOptions(), batch_size=2))


def test_the_next_batch_is_read_while_the_model_answers(pairs, tmp_path, monkeypatch):
    read, load = threading.Event(), batch.load_frames

    def load_frames(modality, paths, **options):
        frames = load(modality, paths, **options)
        if str(paths[0]).endswith("2.png"):
            read.set()
        return frames

    class Waits(FakeModel):
        def answer(self, records, options):
            assert read.wait(20)
            return super().answer(records, options)

    monkeypatch.setattr(batch, "load_frames", load_frames)
    assert caption(Waits(), pairs, tmp_path) == [None] * 6
    texts = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [f"{4 + number} to {4 + number}" in text for number, text in enumerate(texts)] == [True] * 6


def test_a_pair_that_cannot_be_read_is_named_and_the_others_of_its_batch_are_captioned(pairs, tmp_path):
    (tmp_path / "3.png").write_text("no image")
    reasons = caption(FakeModel(), pairs, tmp_path)
    assert [reason for reason in reasons if reason][0].count("3.png") and reasons.count(None) == 5
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 5
