"""``btcchat caption --example``: the packaged pair, for a first look without your own images."""

import json

import pytest

from btcchat import cli
from btcchat.commands import options
from btcchat.commands.caption import EXAMPLE
from tests.fake_model import FakeModel

PAIR = [str(EXAMPLE / "before.png"), str(EXAMPLE / "after.png")]


@pytest.fixture
def model(monkeypatch) -> FakeModel:
    fake = FakeModel()
    monkeypatch.setattr(options, "load_model", lambda args: fake)
    return fake


def test_the_example_is_captioned_like_its_two_files(model, capsys):
    assert cli.main(["caption", *PAIR]) == 0
    named = capsys.readouterr().out
    assert cli.main(["caption", "--example"]) == 0
    assert capsys.readouterr().out == named != ""


def test_the_files_of_the_example_are_printed_on_stderr_before_the_model_is_loaded(monkeypatch, capsys):
    shown = []

    def load_model(args):
        shown.append(capsys.readouterr().err)
        return FakeModel()

    monkeypatch.setattr(options, "load_model", load_model)
    assert cli.main(["caption", "--example"]) == 0
    (first,) = shown
    assert first.count("\n") == 1 and all(path in first for path in PAIR)


def test_stdout_has_only_the_json_of_the_example(model, capsys):
    assert cli.main(["caption", "--example", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [record["before"], record["after"]] == PAIR


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["before.png", "after.png"], "give either BEFORE AFTER or --example"),
        (["--pairs", "list.csv", "--out", "answers.jsonl"], "leave out BEFORE AFTER and --example"),
    ],
)
def test_the_example_together_with_other_images_is_an_error(monkeypatch, capsys, words, fault):
    monkeypatch.setattr(options, "load_model", lambda args: pytest.fail("loaded a model for nothing"))
    assert cli.main(["caption", "--example", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("btcchat: error: ") and fault in err and err.count("\n") == 1
