"""chatml, qwen3 and llama3: their text is that of the published chat templates, and only answers have labels.

The expected texts are what the chat templates of Qwen2.5-Instruct, SmolLM2-Instruct (both with a system message given),
Qwen3 (enable_thinking=False) and Llama-3-Instruct write.
"""

import pytest

from btcchat.errors import BTCChatError
from btcchat.language_model.tokenizer import load_tokenizer
from btcchat.prompt import IGNORE_INDEX, IMAGE, Turn, assistant_turn, encode, end_ids, render, special_tokens
from tests.backbones import AVAILABLE, FAMILIES, write_tokenizer
from tests.turns import user_turn

CHAT = [user_turn("What changed?"), assistant_turn("two houses ."), user_turn("Where?"), assistant_turn("left 2 .")]
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
NO_THOUGHT = "<think>\n\n</think>\n\n"
EXPECTED = {
    "chatml": SYSTEM + "<|im_start|>user\nWhat changed?<|im_end|>\n<|im_start|>assistant\ntwo houses .<|im_end|>\n"
    "<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\nleft 2 .<|im_end|>\n",
    "qwen3": f"<|im_start|>user\nWhat changed?<|im_end|>\n<|im_start|>assistant\n{NO_THOUGHT}two houses .<|im_end|>\n"
    f"<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n{NO_THOUGHT}left 2 .<|im_end|>\n",
    "llama3": "<|start_header_id|>user<|end_header_id|>\n\nWhat changed?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\ntwo houses .<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nWhere?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nleft 2 .<|eot_id|>",
}
END = {"chatml": "<|im_end|>", "qwen3": "<|im_end|>", "llama3": "<|eot_id|>"}


@pytest.fixture(params=AVAILABLE)
def family(request):
    return request.param


@pytest.fixture
def template(family):
    return FAMILIES[family].template


@pytest.fixture
def tokenizer(family, tmp_path):
    write_tokenizer(tmp_path, family)
    return load_tokenizer(tmp_path)


@pytest.mark.parametrize("template", EXPECTED)
def test_a_chat_reads_as_published(template):
    assert render(CHAT, template) == EXPECTED[template]


def test_the_ids_are_those_of_the_whole_text_after_one_token_that_begins_it(template, tokenizer):
    text = (tokenizer.bos_token if template == "llama3" else "") + EXPECTED[template]
    assert (
        encode(CHAT, tokenizer, template, train=True).input_ids == tokenizer(text, add_special_tokens=False).input_ids
    )


def test_only_answers_are_learned_each_with_the_token_that_ends_it(template, tokenizer):
    encoded = encode(CHAT, tokenizer, template, train=True)
    learned = [label for label in encoded.labels if label != IGNORE_INDEX]
    assert tokenizer.decode(learned) == f"two houses .{END[template]}left 2 .{END[template]}"
    assert all(label in (id, IGNORE_INDEX) for id, label in zip(encoded.input_ids, encoded.labels, strict=True))


def test_an_answer_is_generated_after_the_tokens_that_preceded_it_in_training(template, tokenizer):
    for turns in (CHAT[:2], CHAT):
        taught = encode(turns, tokenizer, template, train=True)
        asked = encode(turns[:-1], tokenizer, template, train=False)
        last = len(asked.input_ids)
        assert taught.input_ids[:last] == asked.input_ids
        assert taught.labels[last - 1] == IGNORE_INDEX != taught.labels[last]


@pytest.mark.parametrize("answer", ["\n\n  two houses .\n", "two houses ."])
def test_whitespace_around_an_answer_is_dropped(answer, template, tokenizer):
    encoded = encode([CHAT[0], assistant_turn(answer)], tokenizer, template, train=True)
    assert encoded == encode(CHAT[:2], tokenizer, template, train=True)


@pytest.mark.parametrize("answer", ["", " \n"])
def test_an_empty_answer_leaves_nothing_to_learn_and_keeps_every_turn(answer, template, tokenizer):
    turns = [CHAT[0], assistant_turn(answer), *CHAT[2:]]
    learned = [label for label in encode(turns, tokenizer, template, train=True).labels if label != IGNORE_INDEX]
    assert tokenizer.decode(learned) == f"left 2 .{END[template]}"
    assert render(turns, template).count(END[template]) == EXPECTED[template].count(END[template])


def test_a_template_lists_the_special_tokens_that_it_writes():
    assert special_tokens("v1") == special_tokens("plain") == []
    assert special_tokens("chatml") == special_tokens("qwen_1_5") == ["<|im_end|>", "<|im_start|>"]
    assert special_tokens("qwen3") == ["</think>", "<think>", "<|im_end|>", "<|im_start|>"]
    assert special_tokens("llama3") == ["<|end_header_id|>", "<|eot_id|>", "<|start_header_id|>"]


def test_placeholders_keep_their_place(template, tokenizer):
    encoded = encode([Turn("user", [IMAGE, "\n", IMAGE, "\n", "What?"]), CHAT[1]], tokenizer, template, train=True)
    assert encoded.placeholders == 2
    assert "user\n" in render([Turn("user", [IMAGE, "\n", "What?"])], "chatml").split("<image>\nWhat?")[0]


def test_what_is_typed_stays_text(template, tokenizer):
    typed = "<|im_end|><|eot_id|><think><|begin_of_text|>"
    ids = encode([user_turn(typed)], tokenizer, template, train=False).input_ids
    plain = encode([user_turn("x")], tokenizer, template, train=False).input_ids
    special = set(tokenizer.added_tokens_decoder)
    assert [id for id in ids if id in special] == [id for id in plain if id in special]
    assert typed in tokenizer.decode(ids)


def test_an_answer_ends_where_the_template_or_the_tokenizer_ends_one(template, tokenizer):
    own = tokenizer.convert_tokens_to_ids(END[template])
    assert end_ids(tokenizer, template) == [own]
    base = "<|end_of_text|>" if template == "llama3" else "<|endoftext|>"  # the end token of a base model
    tokenizer.eos_token = base
    assert set(end_ids(tokenizer, template)) == {own, tokenizer.convert_tokens_to_ids(base)}


def test_a_template_of_another_family_names_the_token_that_is_missing(template, tokenizer):
    other = "chatml" if template == "llama3" else "llama3"
    with pytest.raises(BTCChatError, match=r"needs the special token '<\|.*choose another template \(conv_version\)"):
        encode(CHAT, tokenizer, other, train=True)
