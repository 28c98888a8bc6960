"""Independent questions: each is learned as if it were alone with the images."""

from dataclasses import replace

import pytest
import torch

from btcchat import BTCChat, BTCChatError
from btcchat.compat.decoding import run_with_mask, takes_finished_masks
from btcchat.data.records.record import parse
from btcchat.layers.branches import positions, sees
from btcchat.prompt import IGNORE_INDEX
from btcchat.prompt.independent import join
from btcchat.prompt.tokenise import Encoded

TURNS = [
    ("<image>\nIs there a pond?", "yes"),
    ("Is there a road?", "no"),
    ("What changed between the two dates?", "a house was built at the top left"),
]


@pytest.fixture
def model() -> BTCChat:
    return BTCChat.from_pretrained(dtype="float32")


@pytest.fixture
def record(tmp_path):
    conversations = [
        {"from": speaker, "value": text} for turn in TURNS for speaker, text in zip(("human", "gpt"), turn, strict=True)
    ]
    row = {"modality": "pair", "images": ["a.png", "b.png"], "conversations": conversations, "independent": True}
    return parse(row, "row 1", str(tmp_path))


def frames(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 192, 192), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def alone(record):
    turns = record.conversations
    return [replace(record, conversations=turns[i : i + 2], independent=False) for i in range(0, len(turns), 2)]


def loss(model: BTCChat, samples) -> torch.Tensor:
    batch = model.processor.collate(samples)
    return model(**batch).loss


def test_the_loss_is_that_of_each_question_asked_alone(model, record):
    pixels = frames(2)
    joined = model.processor(record, pixels, train=True)
    apart = [model.processor(one, pixels, train=True) for one in alone(record)]
    assert joined["branches"].unique().tolist() == [0, 1, 2, 3]
    assert int((joined["labels"] >= 0).sum()) == sum(int((one["labels"] >= 0).sum()) for one in apart)
    torch.testing.assert_close(loss(model, [joined]), loss(model, apart), rtol=1e-5, atol=1e-6)
    chat = model.processor(replace(record, independent=False), pixels, train=True)
    assert abs(loss(model, [chat]) - loss(model, apart)) > 1e-3  # so the test can tell them apart


def test_a_batch_mixes_them_with_chats(model, record):
    pixels, other = frames(2), frames(2, seed=1)
    joined = model.processor(record, pixels, train=True)
    chat = model.processor(alone(record)[2], other, train=True)
    learned = [int((one["labels"] >= 0).sum()) for one in (joined, chat)]
    expected = (loss(model, [joined]) * learned[0] + loss(model, [chat]) * learned[1]) / sum(learned)
    torch.testing.assert_close(loss(model, [chat, joined]), expected, rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_each_question_asked_alone(model, record):
    pixels = frames(2)
    joined = model.processor(record, pixels, train=True)
    apart = [model.processor(one, pixels, train=True) for one in alone(record)]
    found = []
    for samples in ([joined], apart):
        model.zero_grad()
        loss(model, samples).backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    model.zero_grad()
    assert found[0].keys() == found[1].keys()
    assert found[0]
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-3, atol=1e-5, msg=name)


def test_recomputed_activations_give_the_same_gradients(model, record):
    batch = model.processor.collate([model.processor(record, frames(2), train=True)])
    found = []
    for _ in range(2):
        model.train()
        torch.manual_seed(0)  # of the change encoder's dropout
        model(**batch).loss.backward()
        found.append([p.grad.clone() for p in model.llm.parameters()])
        model.zero_grad()
        model.gradient_checkpointing_enable()
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)


def test_questions_that_do_not_fit_are_left_out_and_reported(model, record):
    pixels = frames(2)
    whole = model.processor(record, pixels, train=True)
    tokens = len(whole["input_ids"]) + sum(model.processor.layout.lengths("pair", 2)) - 1  # one placeholder
    llm = model.config.llm | {"tokenizer_model_max_length": tokens - 1}
    short = replace(model.processor, config=replace(model.config, llm=llm))
    sample = short(record, pixels, train=True)
    assert sample["branches"].unique().tolist() == [0, 1, 2]
    assert "row 1, 1 questions too long" in sample["cut"]
    assert whole["cut"] is None


def test_cut_text_and_left_out_questions_are_both_reported(model, record):
    pixels = frames(2)
    longest = max(len(model.processor(one, pixels, train=True)["input_ids"]) for one in alone(record))
    tokens = longest + sum(model.processor.layout.lengths("pair", 2)) - 1  # one placeholder
    llm = model.config.llm | {"tokenizer_model_max_length": tokens - 3}
    short = replace(model.processor, config=replace(model.config, llm=llm))
    cut = short(record, pixels, train=True)["cut"]
    assert " tokens and " in cut and " questions too long" in cut


def test_the_first_token_after_the_beginning_is_not_learned():
    prompts = [Encoded([1, 2, 3, 4], [IGNORE_INDEX, IGNORE_INDEX, 3, 4]), Encoded([1, 2, 5], [IGNORE_INDEX] * 2 + [5])]
    encoded, branches, left_out = join(prompts, [], None)
    assert encoded.input_ids == [1, 2, 3, 4, 2, 5]
    assert branches == [0, 1, 1, 1, 2, 2]
    assert left_out == 0


def test_mask_and_positions():
    branches = torch.tensor([[0, 0, 1, 1, 2, 0], [0, 1, 2, 2, 2, 3]])
    assert positions(branches).tolist() == [[0, 1, 2, 3, 2, 5], [0, 1, 1, 2, 3, 1]]
    assert sees(branches)[1].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0],
        [1, 0, 1, 1, 0, 0],
        [1, 0, 1, 1, 1, 0],
        [1, 0, 0, 0, 0, 1],
    ]


def test_flash_attention_is_replaced_or_refused(model):
    decoder = model.llm.get_decoder()
    inputs = torch.zeros(1, 2, 192), torch.zeros(1, 1, 2, 2), torch.arange(2)[None]
    inputs = tuple(one.to(model.device) for one in inputs)
    name, decoder.config._attn_implementation = decoder.config._attn_implementation, "flash_attention_2"
    try:
        if takes_finished_masks():
            run_with_mask(decoder, *inputs)
            assert decoder.config._attn_implementation == "sdpa"
        else:
            with pytest.raises(BTCChatError, match="update transformers to 4.53 or later"):
                run_with_mask(decoder, *inputs)
    finally:
        decoder.config._attn_implementation = name


def test_the_key_must_be_true_or_false():
    row = {"modality": "text", "independent": "yes", "conversations": []}
    with pytest.raises(BTCChatError, match="'independent' is a string, expected true or false"):
        parse(row, "row 1", "")
