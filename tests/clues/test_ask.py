"""The clue model: which model is asked what, and how its answer enters the prompt."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from btcchat import cli, prompt
from btcchat.clues import ask as augment
from btcchat.clues.store import CLUE_QUESTIONS, Clues
from btcchat.errors import BTCChatError
from btcchat.media.reading import DEFAULT
from btcchat.processor import request

SETS = {"pairs": "pairs.jsonl", "mixed": "mixed.jsonl", "bad": "bad.jsonl"}


def talk(answer: str = "a house") -> list[dict]:
    return [{"from": "human", "value": "<image>\nWhat is new?"}, {"from": "gpt", "value": answer}]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    from tests.tiny import tiny_model

    folder = tmp_path_factory.mktemp("base")
    tiny_model(folder).save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def model(base):
    from btcchat import BTCChat

    return BTCChat.from_pretrained(base, device="cpu")


@pytest.fixture
def root(tmp_path):
    for i in range(6):
        Image.new("RGB", (32, 32), (40 * i, 90, 200 - 40 * i)).save(tmp_path / f"{i}.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "0.png").read_bytes()[:60])
    pairs = [(0, 1), (1, 2), (0, 1), (2, 3), (3, 4), (4, 5)]  # the first one twice
    rows = {
        "pairs.jsonl": [{"modality": "pair", "images": [f"{a}.png", f"{b}.png"]} for a, b in pairs],
        "mixed.jsonl": [
            {"modality": "image", "image": "0.png"},
            {"modality": "series", "images": ["0.png", "1.png", "2.png"]},
            {"modality": "video", "video": "."},
            {"modality": "text"},
        ],
        "bad.jsonl": [{"modality": "image", "image": "cut.png"}, {"modality": "image", "image": "1.png"}],
    }
    for name, content in rows.items():
        lines = [json.dumps(row | {"conversations": talk()}) for row in content]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    (tmp_path / "cut.png").rename(tmp_path / "cut.bin")  # not a frame of the folder that is read as a video
    text = (tmp_path / "bad.jsonl").read_text().replace("cut.png", "cut.bin")
    (tmp_path / "bad.jsonl").write_text(text)
    sets = "\n".join(f"{name}: {{annotation: {file}, images: .}}" for name, file in SETS.items())
    (tmp_path / "sets.yaml").write_text(sets)
    return tmp_path


def words(root, base, mixture: str, *more: str) -> list[str]:
    where = ["--data_root", str(root), "--mixture_folder", str(root), "--out", str(root / "clues")]
    return ["augment", mixture, "--clue_model", str(base), *where, "--device", "cpu", "--max_new_tokens", "4", *more]


def test_each_set_of_images_is_asked_about_once(root, base, capsys):
    assert cli.main(words(root, base, "pairs*2+mixed", "--batch_size", "2")) == 0
    assert "8 clues written to" in capsys.readouterr().err
    clues = Clues(root / "clues")
    assert len(clues) == 8 and clues.about["questions"] == CLUE_QUESTIONS
    lines = [json.loads(line) for line in (root / "clues/clues.jsonl").open()]
    assert sorted(line["modality"] for line in lines) == ["image", *["pair"] * 5, "series", "video"]
    assert cli.main(words(root, base, "pairs+mixed")) == 0
    assert "0 clues written to" in (err := capsys.readouterr().err) and "8 already there" in err


def test_progress_is_printed_when_stderr_is_a_log(root, base, capsys, every_step):
    assert cli.main(words(root, base, "pairs")) == 0
    assert "btcchat: 2 of 6 records (33 %), " in capsys.readouterr().err


def test_a_clue_is_the_models_answer_to_the_question_of_its_modality(root, base, model, capsys):
    assert cli.main(words(root, base, "mixed")) == 0
    clues, image = Clues(root / "clues"), str(root / "0.png")
    asked = model.ask(CLUE_QUESTIONS["image"], image=image, max_new_tokens=4)
    assert asked and clues.of("image", [image]) == asked


def test_a_run_killed_between_two_batches_resumes_and_ends_the_same(root, base, capsys):
    assert cli.main(words(root, base, "pairs", "--batch_size", "2")) == 0
    whole = (root / "clues/clues.jsonl").read_text()
    (root / "clues").rename(root / "whole")
    code = """
import os, signal, sys
from btcchat import cli
from btcchat.clues.store import ClueWriter
add, calls = ClueWriter.add, []
def stopped(self, clues):
    if calls:
        self._file._file.write(b'{"modality": "pa')  # the kill comes in the middle of a line
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(clues)
    add(self, clues)
ClueWriter.add = stopped
cli.main(sys.argv[1:])
"""
    done = subprocess.run([sys.executable, "-c", code, *words(root, base, "pairs", "--batch_size", "2")])
    assert done.returncode == -9
    assert len((root / "clues/clues.jsonl").read_text().splitlines()) == 3  # two, and the beginning of one
    assert cli.main(words(root, base, "pairs", "--batch_size", "2")) == 0
    assert "3 clues written to" in (err := capsys.readouterr().err) and "2 already there" in err
    assert (root / "clues/clues.jsonl").read_text() == whole


def test_a_record_that_cannot_be_asked_about_is_named_and_the_others_are_asked(root, base, capsys):
    assert cli.main(words(root, base, "bad")) == 3
    err = capsys.readouterr().err
    assert "btcchat: error: bad.jsonl row 1: " in err and "1 clues written" in err and "1 records failed" in err


def test_clues_of_another_model_are_refused(root, base, tmp_path, capsys):
    from tests.tiny import tiny_model

    assert cli.main(words(root, base, "mixed")) == 0
    tiny_model(tmp_path, seed=1).save_pretrained(tmp_path / "other")
    assert cli.main(words(root, tmp_path / "other", "mixed")) == 2
    assert f"has clues of the model {base} (" in capsys.readouterr().err
    with pytest.raises(BTCChatError, match="has clues of the model .*, not of .*other"):
        augment.open_clues(root / "clues", DEFAULT, tmp_path / "other")
    assert len(augment.open_clues(root / "clues", DEFAULT, str(base))) == 3


def test_clues_of_images_that_were_read_in_another_way_are_refused(root, base, capsys):
    assert cli.main(words(root, base, "pairs", "--stretch", "per-date")) == 0
    where = ["--data_root", str(root), "--mixture_folder", str(root), "--clues", str(root / "clues")]
    page = ["--out", str(root / "page.html")]
    captions = ["caption", str(root / "0.png"), str(root / "1.png"), "--prompt-augmentation", "cached", *where[-2:]]
    for command in (
        ["data", "check", "pairs", "--workers", "0", *where],
        ["data", "show", "pairs", *page, *where],
        [*captions, "--device", "cpu", "--model", str(base)],
    ):
        capsys.readouterr()
        assert cli.main(command) == 2, command
        assert "has clues of images read with --stretch per-date; read them in the same way" in capsys.readouterr().err
    assert cli.main(["data", "show", "pairs", "--stretch", "per-date", *page, *where]) == 0
    assert cli.main(words(root, base, "pairs")) == 2
    assert "has clues with reading" in capsys.readouterr().err


# Serving -------------------------------------------------------------------------------------------------------------


def test_online_a_model_without_an_adapter_needs_a_clue_model(model):
    with pytest.raises(BTCChatError, match="no adapter to switch off; name another checkpoint with --clue_model, or"):
        augment.clue_source("online", model)
    assert augment.clue_source("off", model) is None


def test_online_the_model_itself_is_asked_without_its_adapter(root, model, monkeypatch):
    from contextlib import contextmanager

    states = []

    @contextmanager
    def adapter_off():
        states.append("off")
        yield
        states.append("on")

    answer = type(model).answer
    monkeypatch.setattr(model, "base", "its base", raising=False)
    monkeypatch.setattr(model, "adapter_off", adapter_off, raising=False)
    monkeypatch.setattr(type(model), "answer", lambda *a, **k: states.append("asked") or answer(*a, **k))
    paths = [root / "0.png", root / "1.png"]
    clue = augment.clue_source("online", model)([("pair", None, paths)])
    assert states == ["off", "asked", "on"]
    question = CLUE_QUESTIONS["pair"]
    assert clue == [model.ask(question, pair=paths, max_new_tokens=augment.MAX_NEW_TOKENS)]


def test_the_command_gives_the_model_its_clue(root, base, model, capsys):
    pair = [str(root / "0.png"), str(root / "1.png")]
    served = ["--model", str(base), "--device", "cpu", "--max-new-tokens", "5", "--json"]
    online = ["--prompt_augmentation", "online", "--clue_model", "self"]
    assert cli.main(["caption", *pair, *served, *online]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["clue"] == augment.ask(model, [("pair", pair)])[0]
    assert answer["caption"] == model.caption(*pair, clue=answer["clue"], max_new_tokens=5)

    assert cli.main(words(root, base, "pairs")) == 0
    cached = ["--prompt-augmentation", "cached", "--clues", str(root / "clues")]
    capsys.readouterr()
    assert cli.main(["ask", "What is new?", "--pair", *pair, *served, *cached]) == 0
    assert json.loads(capsys.readouterr().out)["clue"] == Clues(root / "clues").of("pair", pair)
    assert cli.main(["ask", "What is new?", "--pair", *pair[::-1], *served, *cached]) == 2
    assert "no clue for" in capsys.readouterr().err
    assert cli.main(["ask", "What is new?", "--image", pair[0], *served, *cached, "--clue_model", "nowhere"]) == 2
    assert "no model at nowhere" in capsys.readouterr().err


def test_many_pairs_are_captioned_with_their_clues(root, base, model, capsys):
    (root / "list.csv").write_text("before,after\n0.png,1.png\n1.png,2.png\n")
    served = ["--model", str(base), "--device", "cpu", "--max-new-tokens", "5", "--out", str(root / "out.jsonl")]
    online = ["--prompt_augmentation", "online", "--clue_model", "self"]
    assert cli.main(["caption", "--pairs", str(root / "list.csv"), *served, *online]) == 0
    pairs = [(root / "0.png", root / "1.png"), (root / "1.png", root / "2.png")]
    clues = augment.ask(model, [("pair", pair) for pair in pairs])
    captions = [model.caption(*pair, clue=clue, max_new_tokens=5) for pair, clue in zip(pairs, clues, strict=True)]
    assert [json.loads(line)["caption"] for line in (root / "out.jsonl").open()] == captions


def test_the_flags_are_checked_before_the_model_is_loaded(root, capsys):
    pair = [str(root / "0.png"), str(root / "1.png")]
    for command in (["caption", *pair], ["ask", "Q?", "--pair", *pair], ["chat", "--pair", *pair]):
        assert cli.main([*command, "--model", "nowhere", "--prompt_augmentation", "onlin"]) == 2
        assert "unknown prompt_augmentation 'onlin' (did you mean 'online'?)" in capsys.readouterr().err


def test_a_clue_comes_after_the_task_and_before_the_question(model):
    record = request("What is new?", "pair", task="change captioning", clue="a house")
    [turn] = model.processor.turns(record, 2)
    assert turn.content == [prompt.IMAGE, "\n", "[change captioning] [clue: a house] What is new?"]
