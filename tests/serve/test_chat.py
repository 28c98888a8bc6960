import io
import json

import pytest
from PIL import Image

from btcchat import cli, prompt, request
from btcchat.commands import options
from btcchat.prompt import IMAGE
from btcchat.serve.chat import Chat, converse
from tests.fake_model import FakeModel

GENERATION = {"max_new_tokens": 16, "temperature": 0.0, "seed": None}


@pytest.fixture
def talk(tmp_path, monkeypatch, capsys):
    """Type lines into a chat and return the chat, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    for name, width in (("a.png", 20), ("b.png", 30), ("with space.png", 40)):
        Image.new("RGB", (width, 10)).save(name)

    def type_in(*lines: str, code: int = 0, **options):
        chat = Chat(FakeModel(), generation=GENERATION, **options)
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(line + "\n" for line in lines)))
        assert converse(chat) == code
        return chat, *capsys.readouterr()

    return type_in


def turns_of(call: dict, segments: int) -> list[prompt.Turn]:
    """The turns that the processor makes of a call, for a model with ``segments`` image segments."""
    hints = {name: call[name] for name in ("dates", "history", "clue")}
    record = request(call["question"], "series", **hints)
    return prompt.turns_from_record(
        record.conversations,
        segments=segments,
        modality="series",
        frames=2,
        hints=prompt.Hints(record.dates, record.task, record.clue),
        literal=record.literal,
    )


def placeholders(turns: list[prompt.Turn]) -> list[int]:
    """The number of placeholders in each question."""
    return [turn.content.count(IMAGE) for turn in turns[::2]]


def test_a_question_about_a_pair_is_answered(talk):
    _, out, err = talk("/pair a.png b.png", "What changed?")
    assert out == "What changed?: pair 20x10 30x10 \n"
    assert "pair of 2 images" in err and "error" not in err


@pytest.mark.parametrize(
    "line, answer",
    [
        ("/image a.png", "image 20x10"),
        ('/image "with space.png"', "image 40x10"),
        ("/pair a.png b.png", "pair 20x10 30x10"),
        ("/series a.png b.png a.png", "series 20x10 30x10 20x10"),
        ("/series .", "series 20x10 30x10 40x10"),
        ("/video .", "video 20x10 30x10 40x10"),
    ],
)
def test_every_kind_of_input_can_be_talked_about(talk, line, answer):
    assert talk(line, "Q")[1] == f"Q: {answer} \n"


def test_the_history_grows_and_its_first_turn_has_the_placeholders(talk):
    chat, _, _ = talk("/series a.png b.png", "one", "two", "three")
    assert [len(call["history"]) for call in chat.model.calls] == [0, 2, 4]
    assert [turn["from"] for turn in chat.history] == ["human", "gpt"] * 3
    turns = turns_of(chat.model.calls[-1], segments=2)
    assert [turn.role for turn in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert placeholders(turns) == [2, 0, 0]
    assert turns[1].content == ["one: series 20x10 30x10"] == [chat.history[1]["value"]]


def test_other_images_start_a_new_conversation(talk):
    chat, _, _ = talk("/image a.png", "one", "/image b.png", "two")
    assert [len(call["history"]) for call in chat.model.calls] == [0, 0]


def test_reset_forgets_the_conversation_and_keeps_the_images(talk):
    chat, out, err = talk("/image a.png", "one", "/reset", "two")
    assert [len(call["history"]) for call in chat.model.calls] == [0, 0]
    assert "two: image 20x10" in out and "the images are kept" in err


def test_dates_start_a_new_conversation_and_must_match_the_images(talk):
    chat, _, err = talk("/series a.png b.png", "one", "/dates 2010", "/dates 2010 2014", "two", code=3)
    assert "dates: got 1 for a series of 2 images" in err
    assert chat.model.calls[1]["dates"] == ["2010", "2014"] and chat.model.calls[1]["history"] == []


def test_the_clue_is_in_the_first_question(talk):
    requests = []

    def clues(about):
        requests.extend(about)
        return ["a house"]

    chat, _, err = talk("/pair a.png b.png", "one", "two", "/reset", "three", clues=clues)
    questions = [turns_of(call, segments=2)[::2] for call in chat.model.calls]
    assert [["[clue: a house] " in str(turn.content) for turn in turns] for turns in questions] == [
        [True], [True, False], [True],
    ]  # fmt: skip
    (modality, paths, frames), *more = requests
    assert (modality, paths, [frame.width for frame in frames], more) == ("pair", ["a.png", "b.png"], [20, 30], [])
    assert "clue: a house" in err
    assert questions[-1][0].content[-1] == "\n[clue: a house] three"


def test_help_lists_every_command(talk):
    err = talk("/help")[2]
    for command in ("/pair", "/image", "/series", "/video", "/dates", "/reset", "/help", "/quit"):
        assert command in err


def test_quit_leaves(talk):
    assert talk("/image a.png", "/quit", "not asked")[1] == ""


@pytest.mark.parametrize(
    "line, words",
    [
        ("What is here?", "no image is loaded"),
        ("/pair a.png", "1 image (a.png), a pair needs 2 (before, after)"),
        ("/pair", "/pair needs files"),
        ("/pair a.png missing.png", "image 'missing.png' not found"),
        ("/image a.png b.png", "an image needs 1"),
        ("/pairs a.png b.png", "unknown command '/pairs' (did you mean '/pair'?)"),
        ('/image "a.png', "cannot read that line: no closing quotation"),
        ("/dates 2010", "dates belong to a pair or a series"),
    ],
)
def test_an_error_is_one_line_and_the_chat_continues(talk, line, words):
    _, out, err = talk(line, "/image b.png", "Q", code=3)
    faults = [text for text in err.splitlines() if "error" in text]
    assert len(faults) == 1 and faults[0].startswith("btcchat: error: ") and words in faults[0]
    assert out == "Q: image 30x10 \n"


def test_an_error_keeps_the_images_loaded_before(talk):
    assert talk("/image a.png", "/image missing.png", "Q", code=3)[1] == "Q: image 20x10 \n"


def test_a_chat_on_a_terminal_ends_well_whatever_failed(talk, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("tests.serve.test_chat.io.StringIO", Terminal)
    assert "no image is loaded" in talk("What is here?")[2]


def test_piped_lines_of_which_one_failed_give_the_exit_code_of_a_partial_failure(talk, monkeypatch):
    monkeypatch.setattr(options, "load_model", lambda args: FakeModel())
    for lines, code in (("Q\n/quit\n", 3), ("/image a.png\nQ\n", 0), ("/image no.png\n/image a.png\nQ", 3)):
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        assert cli.main(["chat"]) == code


def test_ctrl_c_stops_the_answer_and_the_chat_continues(talk):
    chat, out, err = talk("/image a.png", "one", "please interrupt now", "two")
    assert out == "one: image 20x10 \nplease \ntwo: image 20x10 \n"
    assert "stopped" in err
    assert [len(call["history"]) for call in chat.model.calls] == [0, 2, 2]  # a stopped answer is not kept
    assert chat.model.closed == 3


def test_json_output_has_one_object_per_answer(talk):
    _, out, _ = talk("/image a.png", "Öde?", "two", as_json=True)
    assert [json.loads(line) for line in out.splitlines()] == [
        {"question": "Öde?", "answer": "Öde?: image 20x10"},
        {"question": "two", "answer": "two: image 20x10"},
    ]


def test_the_command_takes_its_first_images_as_options(talk, monkeypatch, capsys):
    monkeypatch.setattr(options, "load_model", lambda args: FakeModel())
    monkeypatch.setattr("sys.stdin", io.StringIO("Q\n"))
    assert cli.main(["chat", "--series", "a.png", "b.png", "--dates", "2010", "2014"]) == 0
    assert capsys.readouterr().out == "Q: series 20x10 30x10 \n"


@pytest.mark.parametrize("line", ["/image a.png", "/pair a.png b.png", "/series a.png b.png a.png", "/video ."])
def test_a_real_model_keeps_the_conversation(tmp_path, monkeypatch, capsys, line):
    from tests.tiny import tiny_model

    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 40), (200, 30, 60)).save(name)
    chat = Chat(tiny_model(tmp_path), generation=GENERATION)
    seen, turns = [], chat.model.processor.turns
    monkeypatch.setattr(chat.model.processor, "turns", lambda *record: seen.append(turns(*record)) or seen[-1])
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{line}\nWhat changed?\nAnd <image> now?\n"))
    assert converse(chat) == 0
    out, err = capsys.readouterr()
    assert "error" not in err and len(chat.history) == 4
    assert chat.history[3]["value"] in out
    # the model sees its first answer when it writes the second
    alone = Chat(chat.model, generation=GENERATION)
    alone.use(chat.modality, chat.frames if chat.modality != "image" else chat.frames[0])
    alone.ask("And <image> now?")
    first, second, by_itself = map(placeholders, seen)
    assert second == [*first, 0] and first[0] > 0 and by_itself == first
    assert seen[1][1].content == [chat.history[1]["value"]]
