"""The official client, unchanged, against a live server."""

import threading
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from openai import OpenAI
from PIL import Image

from btcchat import request
from btcchat.generation import GenerationOptions
from tests.serve.http.conftest import AFTER, BEFORE, PAIR, image, wait_until, wait_until_idle, words

KEY = "a-key-of-some-length"


@pytest.fixture
def client(live) -> OpenAI:
    return OpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0)


def user(*content) -> dict:
    return {"role": "user", "content": list(content)}


def ask(client: OpenAI, messages, **options):
    return client.chat.completions.create(**{"model": "tiny", "messages": messages, "max_tokens": 60, **options})


def answer(tiny, question: str, *shown, tokens: int = 60, **options) -> str:
    return tiny.answer([request(question, *shown, **options)], GenerationOptions(tokens))[0]


def test_a_pair_is_answered_as_in_python(client, tiny):
    question = tiny.config.caption_question
    reply = ask(client, [user(*PAIR, words(question))])
    assert reply.choices[0].message.content == answer(tiny, question, "pair", [BEFORE, AFTER])
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.object == "chat.completion" and reply.model == "tiny"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.btcchat == {"modality": "pair", "images": 2}


def test_a_stream_is_the_same_answer_in_pieces(client, tiny):
    question = tiny.config.caption_question
    chunks = list(ask(client, [user(*PAIR, words(question))], stream=True, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0].delta.content for chunk in chunks[1:-2]]
    assert len(pieces) > 3
    assert "".join(pieces) == answer(tiny, question, "pair", [BEFORE, AFTER])
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].btcchat == {"modality": "pair", "images": 2}
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens >= len(pieces)
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_conversation_can_have_several_turns(client, tiny):
    first = ask(client, [user(*PAIR, words("What changed?"))]).choices[0].message
    messages = [user(*PAIR, words("What changed?")), first.model_dump(), user(words("How many?"))]
    history = [{"from": "human", "value": "What changed?"}, {"from": "gpt", "value": first.content}]
    expected = answer(tiny, "How many?", "pair", [BEFORE, AFTER], history=history)
    assert ask(client, messages).choices[0].message.content == expected


@pytest.mark.parametrize(
    "content, fields, modality",
    [
        ([], {}, "text"),
        ([image()], {}, "image"),
        (PAIR, {}, "pair"),
        (PAIR * 2, {}, "series"),
        (PAIR, {"modality": "series", "dates": ["2019", "2021"]}, "series"),
        (PAIR, {"modality": "video"}, "video"),
        ([image()], {"modality": "video"}, "video"),
    ],
)
def test_the_modality_is_given_or_follows_from_the_number_of_images(client, tiny, content, fields, modality):
    reply = ask(client, [user(*content, words("What is here?"))], extra_body=fields)
    assert reply.btcchat == {"modality": modality, "images": len(content)}
    shown = [Image.open(path) for path in [BEFORE, AFTER] * 2][: len(content)]
    expected = answer(tiny, "What is here?", modality, shown or None, dates=fields.get("dates"))
    assert reply.choices[0].message.content == expected


def test_content_can_be_a_string(client, tiny):
    assert ask(client, [{"role": "user", "content": "Hello"}]).choices[0].message.content == answer(tiny, "Hello")


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_message_replaces_the_text_of_the_template(client, tiny, role):
    reply = ask(client, [{"role": role, "content": "Be brief."}, user(*PAIR, words("What changed?"))])
    record = request("What changed?", "pair", [BEFORE, AFTER])
    sample = tiny.processor(record, train=False, system="Be brief.")
    usual = tiny.processor(record, train=False)
    assert reply.usage.prompt_tokens == len(sample["input_ids"]) - 1 + tiny.layout.change_tokens
    assert len(sample["input_ids"]) != len(usual["input_ids"])
    assert "Be brief." in tiny.tokenizer.decode([id for id in sample["input_ids"].tolist() if id >= 0])


def test_sampling_with_a_seed_is_repeatable(client):
    def sampled(seed: int) -> str:
        reply = ask(client, [user(*PAIR, words("Describe it."))], temperature=1.5, top_p=0.95, seed=seed)
        return reply.choices[0].message.content

    assert sampled(1) == sampled(1)
    assert len({sampled(seed) for seed in range(5)}) > 1


def test_an_answer_ends_at_a_stop_string_or_at_its_maximum_length(client, tiny):
    messages = [user(*PAIR, words(tiny.config.caption_question))]
    whole = ask(client, messages).choices[0].message.content
    word = whole.split()[3]
    for stop in (word, [word, "never"]):
        choice = ask(client, messages, stop=stop).choices[0]
        assert choice.message.content == whole[: whole.index(word)].strip()
        assert choice.finish_reason == "stop"
    for name in ("max_tokens", "max_completion_tokens"):
        options = {"max_tokens": openai.NOT_GIVEN, name: 3}
        reply = ask(client, messages, **options)
        assert reply.choices[0].finish_reason == "length"
        assert reply.usage.completion_tokens == 3


def test_fields_that_clients_send_with_neutral_values_are_accepted(client):
    options = {"n": 1, "user": "me", "logprobs": False, "frequency_penalty": 0, "presence_penalty": 0.0}
    assert ask(client, [user(words("Hello"))], **options, metadata={"a": "b"}, store=False).choices


@pytest.mark.parametrize(
    "options, param, message",
    [
        ({"n": 2}, "n", "Input should be 1"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "the model calls no functions"),
        ({"response_format": {"type": "json_object"}}, "response_format", "the answer is plain text"),
        ({"logprobs": True}, "logprobs", "Input should be False"),
        ({"top_logprobs": 3}, "top_logprobs", "not supported"),
        ({"logit_bias": {"1": 2}}, "logit_bias", "not supported"),
        ({"frequency_penalty": 1}, "frequency_penalty", "less than or equal to 0"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"max_tokens": 5000}, "max_tokens", "max_tokens is 5000; this server writes at most 1024 tokens"),
        ({"max_completion_tokens": 5}, "max_tokens", "give only one"),
        ({"temperature": -1}, "temperature", "greater than or equal to 0"),
        ({"temperature": 1e-9}, "temperature", "0 (greedy) or a number from 0.001"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"stop": [""]}, "stop", "strings that are not empty"),
        ({"extra_body": {"modality": "pear"}}, "modality", "Input should be 'text', 'image', 'pair'"),
        ({"extra_body": {"modality": "text"}}, "modality", "the request has images"),
        ({"extra_body": {"modality": "image"}}, "messages", "2 images, an image needs 1"),
        ({"extra_body": {"dates": ["2019"]}}, "dates", "give one for each image"),
        ({"extra_body": {"dates": ["1", "2"], "modality": "video"}}, "dates", "give one for each image"),
        ({"extra_body": {"bands": "1,2"}}, "bands", "expected three"),
        ({"extra_body": {"stretch": "wide"}}, "stretch", "expected shared, per-date, none or LOW,HIGH"),
        ({"extra_body": {"colour": "red"}}, "colour", "leave it out"),
    ],
)
def test_a_wrong_field_is_named(client, options, param, message):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, [user(*PAIR, words())], **options)
    error = caught.value.body
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert message in error["message"] and "\n" not in error["message"] and len(error["message"]) <= 300


@pytest.mark.parametrize(
    "messages, message",
    [
        ([], "at least 1 item"),
        ([{"role": "assistant", "content": "a"}], "messages[0] has role assistant, expected user"),
        ([user(words("a")), user(words("b"))], "messages[1] has role user, expected assistant: roles must alternate"),
        ([user(words("a")), {"role": "assistant", "content": "b"}], "must end with a question"),
        ([user(words()), {"role": "assistant", "content": "b"}, user(image())], "images belong in the first"),
        ([user(words("a")), {"role": "system", "content": "b"}], "messages[1] has role system"),
        ([user(words("  "))], "the question is empty"),
        ([{"role": "robot", "content": "a"}], "does not match any of the expected tags"),
        ([user({"type": "input_audio"})], "does not match any of the expected tags"),
        ([user(words("a "*3000))], "1024"),
        ([user(words("a")), {"role": "assistant", "content": "b" * 70_000}, user(words("c"))], "has 70,002 characters"),
        ([{"role": "system", "content": "b" * 70_000}, user(words("c"))], "has 70,001 characters"),
        ([user({"type": "image_url", "image_url": {"url": "data:image/png;base64,@@@"}}, words())], "not valid base64"),
        ([user({"type": "image_url", "image_url": {"url": "data:image/png,abc"}}, words())], "data:TYPE;base64,DATA"),
        ([user({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, words())], "expected a data: URL"),
        ([user({"type": "image_url", "image_url": {"url": "https://a.org/b"}}, words())], "not fetched from 'a.org'"),
        ([user(image(b"no image"), words())], "'image 1' is not an image that can be read"),
        ([user(image(b""), words())], "'image 1' is empty"),
        ([user(image(BEFORE.read_bytes()[:5000]), words())], "truncated or damaged"),
        ([user(*PAIR * 9, words())], "18 images, this server takes at most 16"),
    ],
)  # fmt: skip
def test_invalid_messages_are_refused(client, messages, message):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, messages)
    assert caught.value.body["param"].startswith("messages")
    assert message in caught.value.body["message"]


def test_an_unknown_model_is_404(client):
    with pytest.raises(openai.NotFoundError, match="unknown model 'gpt-4'; this server has 'tiny'"):
        ask(client, [user(words())], model="gpt-4")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_the_model_is_listed(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").object == "model"


def test_a_key_is_required(started):
    url = f"{started(keys=(KEY, KEY + '2')).url}/v1"
    for wrong in ("other", KEY[:-1], KEY + "3", "ké"):
        with pytest.raises((openai.AuthenticationError, UnicodeEncodeError)):
            ask(OpenAI(base_url=url, api_key=wrong, max_retries=0), [user(words())])
    for right in (KEY, KEY + "2"):
        assert ask(OpenAI(base_url=url, api_key=right), [user(words())]).choices


def test_a_stream_that_is_closed_frees_its_slot(started, endless):
    live = started(max_batch=1)
    client = OpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0)
    with ask(client, [user(*PAIR, words())], stream=True, max_tokens=900) as stream:
        for number, _ in enumerate(stream):
            if number == 3:
                break
    assert ask(client, [user(words())], max_tokens=2).usage.completion_tokens == 2
    wait_until_idle(live)


def test_a_client_that_gives_up_frees_its_slot(started, endless, gate):
    live = started(max_batch=1)
    gate.close()
    client = OpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0, timeout=3)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, client, [user(words())], max_tokens=900)
        gate.wait()
        with pytest.raises(openai.APITimeoutError):
            asked.result()
    gate.open()
    wait_until(lambda: 'btcchat_answers_total{reason="cancelled"} 1.0' in live.get("/metrics").text)
    wait_until_idle(live)


def test_answers_to_simultaneous_clients_equal_those_alone(client, tiny):
    questions = ["What changed?", "How many houses?", "Is there a pond?", "Describe it."]
    found = {}
    threads = [
        threading.Thread(
            target=lambda q=q: found.update({q: ask(client, [user(*PAIR, words(q))]).choices[0].message.content})
        )
        for q in questions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {question: answer(tiny, question, "pair", [BEFORE, AFTER]) for question in questions}


def test_an_error_in_mid_stream_reaches_the_client(started, endless, monkeypatch):
    from btcchat.generation import Decoder

    step = Decoder.step

    def faulty(decoder):
        if decoder.active and len(decoder.active[0].ids) > 20:
            raise KeyError("a bug")
        return step(decoder)

    live = started()
    client = OpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0)
    monkeypatch.setattr(Decoder, "step", faulty)
    with pytest.raises(openai.APIError, match="internal error, KeyError"):
        list(ask(client, [user(words())], stream=True))
    monkeypatch.undo()
    assert ask(client, [user(words())]).choices
