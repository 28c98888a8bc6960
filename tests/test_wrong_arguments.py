"""Wrong arguments of a Python caller are errors that name the argument."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from btcchat import BTCChatError, request
from btcchat.data import register
from btcchat.data.mixture import build_datasets
from btcchat.data.records import Records
from btcchat.decoding.options import GenerationOptions
from btcchat.media import load_frames
from btcchat.plugins import enable

IMAGE = Image.new("RGB", (40, 40), (200, 30, 60))
TURN = {"from": "human", "value": "What is here?"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from tests.tiny import tiny_model

    return tiny_model(tmp_path_factory.mktemp("model"))


AN_IMAGE = "must be a path, a PIL image, a numpy array or a torch tensor, not"
TYPES = {
    "the path of a model must be a checkpoint folder or a hub id, not int": lambda model: model.from_pretrained(5),
    "the path of a model must be a checkpoint folder or a hub id, not bytes": lambda model: model.from_pretrained(b"x"),
    "chg_type must be a string, not list": lambda model: model.from_pretrained(chg_type=[5]),
    "mm_projector_type must be a string, not int": lambda model: model.from_pretrained(mm_projector_type=5),
    "change_encoder must be a dict, the config of a change encoder, not int": lambda model: model.from_parts(
        vision_tower="a", llm="b", change_encoder=5
    ),
    "folder must be a path, not int": lambda model: model.save_pretrained(5),
    "folder must be a path, not bytes": lambda model: model.save_pretrained(b"x"),
    "dtype must be a torch dtype of floating point, or None, not str": lambda model: model.save_pretrained(
        "x", dtype="float32"
    ),
    "state_dict must be a dict of tensors, not int": lambda model: model.save_pretrained("x", state_dict=5),
    "num_video_frames must be a whole number, not str": lambda model: load_frames("video", [IMAGE], "8"),
    "mixture must be a string such as 'levir_cc+cdvqa*2', not NoneType": lambda model: build_datasets(None, dict),
    "data_root must be a path, not int": lambda model: build_datasets("levir_cc", dict, data_root=5),
    "path must be a path, not int": lambda model: Records(5, "."),
    "name must be a string, not int": lambda model: register(5, annotation="a.jsonl"),
    "module must be the name of a Python module, not int": lambda model: enable(5),
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
    "from_pretrained: conv_version is [], expected a string": lambda model: model.from_pretrained(conv_version=[]),
    "from_pretrained: num_video_frames is 0, expected at least 1": lambda model: model.from_pretrained(
        num_video_frames=0
    ),
    "from_pretrained: vision_resolution is 1000000, expected at most 8192": lambda model: model.from_pretrained(
        vision_resolution=10**6
    ),
    "device is cpu:x, expected a kind and a number": lambda model: model.from_pretrained(device="cpu:x"),
    "dtype is torch.int8, expected one of float32": lambda model: model.from_pretrained(dtype=torch.int8),
    "change encoder: cc_n_layers is 10000000, expected at most 1000": lambda model: model.from_pretrained(
        fresh_change_encoder=True, cc_n_layers=10**7
    ),
    "max_shard_size is 'x', expected a number with its unit": lambda model: model.save_pretrained(
        "x", max_shard_size="x"
    ),
    f"'{'x' * 80}' cannot be written: File name too long": lambda model: model.save_pretrained("x" * 5000),
    "'a\\x00b' cannot be written: no file can have this name": lambda model: model.save_pretrained("a\0b"),
    f"no model at {'x' * 80}: File name too long": lambda model: model.from_pretrained("x" * 5000),
    "num_video_frames is 0, expected at least 1": lambda model: load_frames("video", [IMAGE], 0),
    "register: data set 'mine': annotation is 5, expected a string": lambda model: register("mine", annotation=5),
    "the question has \\ud800 at position 3, which is not a character": lambda model: model.ask("a \ud800"),
    "a text of dates has \\ud800 at position 1": lambda model: model.caption(IMAGE, IMAGE, dates=["\ud800", "2010"]),
    "num_beams is 1000; it must be a whole number from 1 to 256": lambda model: model.ask("Q", num_beams=1000),
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
    "history must alternate and end with an answer ('gpt'); its turns are human": lambda model: model.ask(
        "Q", history=[TURN]
    ),
    "history must alternate and end with an answer ('gpt'); its turns are human, human": lambda model: model.stream(
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


def test_valid_arguments_pass_the_checks(model, tmp_path):
    """Any kind of path, tuples instead of lists, and a greeting before the first question."""
    IMAGE.save(tmp_path / "a.png")
    plain = model.ask("Q", image=IMAGE, max_new_tokens=4)
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), [IMAGE], (Path(tmp_path / "a.png"),)):
        assert model.ask("Q", image=source, max_new_tokens=4) == plain
    pair = (IMAGE, tmp_path / "a.png")
    dated = model.ask("Q", pair=pair, dates=("2010", "2014"), max_new_tokens=4, stop=["."])
    assert dated == model.ask("Q", pair=list(pair), dates=["2010", "2014"], max_new_tokens=4, stop=(".",))
    answered = [TURN, {"from": "gpt", "value": "a house"}]
    greeted = [{"from": "gpt", "value": "Hello."}, *answered]
    answer = model.ask("Q", image=IMAGE, history=answered, max_new_tokens=4)
    assert model.ask("Q", image=IMAGE, history=greeted, max_new_tokens=4) == answer
    assert model.answer((request("Q", "image", IMAGE),), GenerationOptions(4)) == [plain]
