"""examples/gradio_demo.py with a stand-in for Gradio, which the pinned packages exclude."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from btcchat.commands.caption import EXAMPLE
from tests.tiny import tiny_model


class Error(Exception):
    pass


@pytest.fixture
def answer(monkeypatch, tmp_path):
    """The function that the page calls."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "examples"))
    part = lambda **options: options  # noqa: E731
    gradio = SimpleNamespace(Error=Error, Image=part, Textbox=part, Interface=lambda function, **options: function)
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    monkeypatch.delitem(sys.modules, "gradio_demo", raising=False)
    import gradio_demo

    model = tiny_model(tmp_path)
    function = gradio_demo.build(model)
    function.model = model
    return function


def test_a_pair_is_captioned_or_asked_about_and_drawn(answer):
    before, after = (Image.open(EXAMPLE / name) for name in ("before.png", "after.png"))
    text, picture = answer(before, after, " ")
    assert text == answer.model.caption(before, after)
    assert picture.size == after.size and picture.tobytes() != after.convert("RGB").tobytes()
    assert answer(before, after, "houses")[0] == answer.model.ask("houses", pair=[before, after])


def test_an_invalid_question_shows_an_error_on_the_page(answer):
    picture = Image.open(EXAMPLE / "before.png")
    with pytest.raises(Error, match="Choose two images"):
        answer(picture, None, "")
    with pytest.raises(Error, match="tokens"):
        answer(picture, picture, "houses " * 2000)
