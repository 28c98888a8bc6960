"""Any change encoder with any language model: each combination runs, learns, answers and saves."""

import itertools

import pytest
import torch

from btcchat import BTCChat, Record, request
from btcchat.change_encoder import CHANGE_ENCODERS
from btcchat.decoding.options import GenerationOptions
from btcchat.generation import generate_ids
from btcchat.language_model import LANGUAGE_MODELS
from tests.test_model import batch_of, picture
from tests.tiny import ATTENTIVE, tiny_model

ENCODERS = {
    "attentive": (ATTENTIVE, -1),
    "difference_aware": ({"change_encoder_type": "difference_aware", "per_expert_depth": 2, "mlp_dim": 24}, [-2, -1]),
    "concat": ({"change_encoder_type": "concat"}, [-2, -1]),
}


def test_every_change_encoder_is_tested_here():
    assert set(ENCODERS) == set(CHANGE_ENCODERS)


@pytest.fixture(scope="module", params=itertools.product(ENCODERS, LANGUAGE_MODELS), ids="-".join)
def model(request, tmp_path_factory):
    name, llm = request.param
    encoder, layers = ENCODERS[name]
    projector = {"mm_projector_type": "mlp2x_gelu" if llm == "qwen2" else "mlp_downsample"}
    folder = tmp_path_factory.mktemp("model")
    return tiny_model(folder, change_encoder=encoder, llm=llm, mm_vision_select_layer=layers, mm_projector=projector)


def sample(model, number: int) -> dict:
    turns = [
        {"from": "human", "value": "What changed between the two images?"},
        {"from": "gpt", "value": ["two houses are built .", "the scene is the same as before ."][number]},
    ]
    pair = [picture(10 * number + date) for date in range(2)]
    return model.processor(Record("test", "pair", pair, turns), train=True)


def test_a_batch_of_pairs_gives_the_outputs_of_one_by_one(model):
    asked = [request("What changed?", "pair", [picture(n), picture(n + 1)]) for n in range(2)]
    asked.append(request("What is in the image?", "image", picture(5)))
    with torch.no_grad():
        together = model.embed(**batch_of(model, asked))
        for row, record in enumerate(asked):
            alone = model.embed(**batch_of(model, [record])).inputs_embeds[0]
            torch.testing.assert_close(together.inputs_embeds[row, : len(alone)], alone, atol=1e-5, rtol=0)
    options = GenerationOptions(4)
    assert model.answer(asked, options) == [model.answer([r], options)[0] for r in asked]


def test_a_saved_model_loads_bit_equal(model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    again = BTCChat.from_pretrained(tmp_path / "saved", device="cpu")
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    batch = batch_of(model, [request("What changed?", "pair", [picture(1), picture(2)])])
    options = GenerationOptions(6)
    assert generate_ids(model, batch, options) == generate_ids(again, batch, options)


def test_the_loss_falls(model):
    """Last in this file: it changes the weights."""
    torch.manual_seed(0)
    model.requires_grad_(True)
    model.train()
    batch = model.processor.collate([sample(model, number) for number in range(2)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = model(**batch).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    assert losses[-1] < 0.8 * losses[0], losses
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.change_encoder.parameters())
