"""What a caller in Python can get wrong: each an error that names the argument."""

from pathlib import Path

import pytest
from PIL import Image

from btcchat import BTCChatError, request
from btcchat.decoding.options import GenerationOptions

IMAGE = Image.new("RGB", (40, 40), (200, 30, 60))
TURN = {"from": "human", "value": "What is here?"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from tests.tiny import tiny_model

    return tiny_model(tmp_path_factory.mktemp("model"))


AN_IMAGE = "must be a path, a PIL image, a numpy array or a torch tensor, not"
TYPES = {
    "the path of a model must be a checkpoint folder or a hub id, not int": lambda model: model.from_pretrained(5),
    "question must be a string, not int": lambda model: model.ask(5),
    "question must be a string, not NoneType": lambda model: model.stream(None),
    f"image {AN_IMAGE} int": lambda model: model.ask("Q", image=5),
    f"image {AN_IMAGE} bytes": lambda model: model.ask("Q", image=b"a.png"),
    f"video {AN_IMAGE} bytes": lambda model: model.ask("Q", video=b"clip.mp4"),
    f"pair {AN_IMAGE} bytes": lambda model: model.ask("Q", pair=b"ab"),
    f"pair {AN_IMAGE} set": lambda model: model.ask("Q", pair={"a.png", "b.png"}),
    f"pair[1] {AN_IMAGE} NoneType": lambda model: model.ask("Q", pair=[IMAGE, None]),
    f"pair[0] {AN_IMAGE} int": lambda model: model.caption(5, IMAGE),
    f"pair[1] {AN_IMAGE} bytes": lambda model: model.change_map(IMAGE, b"b.png"),
    f"series[2] {AN_IMAGE} float": lambda model: model.ask("Q", series=[IMAGE, IMAGE, 0.5]),
    f"series[0] {AN_IMAGE} list": lambda model: model.ask("Q", series=[[IMAGE], IMAGE]),
    "dates must be a list with a date for each image, not str": lambda model: model.caption(IMAGE, IMAGE, dates="2010"),
    "task must be a string, not int": lambda model: model.caption(IMAGE, IMAGE, task=1),
    "clue must be a string, not list": lambda model: model.caption(IMAGE, IMAGE, clue=["a house"]),
    "history must be a list of turns {'from': 'human' | 'gpt', 'value': text}, not str": lambda model: model.ask(
        "Q", image=IMAGE, history="What is here?"
    ),
    "history must be a list of turns {'from': 'human' | 'gpt', 'value': text}, not dict": lambda model: model.ask(
        "Q", image=IMAGE, history=TURN
    ),
    "modality must be one of text, image, pair, series, video, not list": lambda model: request("Q", [IMAGE]),
    "records must be a list of Record, not str": lambda model: model.answer("What is here?"),
    "records must be a list of Record, not Record": lambda model: model.answer(request("Q")),
    "records[1] must be a Record (see btcchat.request), not str": lambda model: model.answer([request("Q"), "Q"]),
    "options must be GenerationOptions, or a list with one for each record, not dict": lambda model: model.answer(
        [request("Q")], {"max_new_tokens": 5}
    ),
    "options must be GenerationOptions, or a list with one for each record, not int": lambda model: model.answer(
        [request("Q")], 5
    ),
}
VALUES = {
    "records is empty; give at least one": lambda model: model.answer([]),
    "max_new_tokens is '5'; it must be a whole number": lambda model: model.ask("Q", max_new_tokens="5"),
    "max_new_tokens is True; it must be": lambda model: model.caption(IMAGE, IMAGE, max_new_tokens=True),
    "max_new_tokens is 2.5; it must be": lambda model: model.stream("Q", max_new_tokens=2.5),
    "temperature is '1'; it must be": lambda model: model.ask("Q", temperature="1"),
    "seed is 'x'; it must be": lambda model: model.ask("Q", seed="x"),
    "stop is 'end'; it must be a list of strings": lambda model: model.ask("Q", stop="end"),
    "stop is 5; it must be a list of strings": lambda model: model.caption(IMAGE, IMAGE, stop=5),
    "stop is ['a', 1]; it must be a list of strings": lambda model: model.stream("Q", stop=["a", 1]),
    "history[0] must be a turn {'from': 'human' | 'gpt', 'value': text}; got 'hello'": lambda model: model.ask(
        "Q", image=IMAGE, history=["hello"]
    ),
    "history[1] must be a turn": lambda model: model.ask("Q", history=[TURN, {"role": "gpt", "content": "a house"}]),
    "history[1] must be a turn {'from'": lambda model: model.ask("Q", history=[TURN, ("gpt", "a house")]),
    "unknown speaker of history[0] 'robot'": lambda model: model.ask("Q", history=[{"from": "robot", "value": "a"}]),
    "history must take turns and end with an answer ('gpt'); its turns are human": lambda model: model.ask(
        "Q", history=[TURN]
    ),
    "history must take turns and end with an answer ('gpt'); its turns are human, human": lambda model: model.stream(
        "Q", history=[TURN, TURN]
    ),
    "unknown modality 'pairs' (did you mean 'pair'?)": lambda model: request("Q", "pairs", [IMAGE, IMAGE]),
    "image and pair were given; a question is about one of them": lambda model: model.ask(
        "Q", image=IMAGE, pair=[IMAGE, IMAGE]
    ),
    "1 image (a.png), a pair needs 2 (before, after)": lambda model: model.ask("Q", pair="a.png"),
    "1 image (PIL image), a pair needs 2 (before, after)": lambda model: model.ask("Q", pair=IMAGE),
    "got 2 generation options for 1 rows": lambda model: model.answer([request("Q")], [GenerationOptions()] * 2),
}


@pytest.mark.parametrize("message", TYPES)
def test_an_argument_of_a_wrong_type_is_a_type_error_that_names_it(model, message):
    with pytest.raises(TypeError) as error:
        TYPES[message](model)
    assert str(error.value) == message


@pytest.mark.parametrize("message", VALUES)
def test_an_argument_of_a_wrong_value_is_an_error_that_names_it(model, message):
    with pytest.raises(BTCChatError) as error:
        VALUES[message](model)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_what_the_checks_let_through(model, tmp_path):
    """A path of any kind, tuples in the place of lists, a greeting before the first question."""
    IMAGE.save(tmp_path / "a.png")
    plain = model.ask("Q", image=IMAGE, max_new_tokens=4)
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), [IMAGE], (Path(tmp_path / "a.png"),)):
        assert model.ask("Q", image=source, max_new_tokens=4) == plain
    pair = (IMAGE, tmp_path / "a.png")
    dated = model.ask("Q", pair=pair, dates=("2010", "2014"), max_new_tokens=4, stop=["."])
    assert dated == model.ask("Q", pair=list(pair), dates=["2010", "2014"], max_new_tokens=4, stop=(".",))
    answered = [TURN, {"from": "gpt", "value": "a house"}]
    greeted = [{"from": "gpt", "value": "Hello."}, *answered]
    told = model.ask("Q", image=IMAGE, history=answered, max_new_tokens=4)
    assert model.ask("Q", image=IMAGE, history=greeted, max_new_tokens=4) == told
    assert model.answer((request("Q", "image", IMAGE),), GenerationOptions(4)) == [plain]
