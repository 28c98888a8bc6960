"""Any change encoder with any language model: each pair of them runs, learns, answers and saves."""

import itertools

import pytest
import torch
from btcchat.data.collate import collate

from btcchat import BTCChat, prompt
from btcchat.change_encoder import CHANGE_ENCODERS
from btcchat.generation import Request, batch_of, generate
from btcchat.language_model import LANGUAGE_MODELS
from tests.test_model import picture
from tests.tiny import ATTENTIVE, tiny_model

ENCODERS = {
    "attentive": (ATTENTIVE, -1),
    "difference_aware": ({"change_encoder_type": "difference_aware", "per_expert_depth": 2, "mlp_dim": 24}, [-2, -1]),
    "concat": ({"change_encoder_type": "concat"}, [-2, -1]),
}


def test_every_change_encoder_is_here():
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
        prompt.user_turn("What changed between the two images?", model.num_segments("pair", 2)),
        prompt.assistant_turn(["two houses are built .", "the scene is the same as before ."][number]),
    ]
    encoded = prompt.encode(turns, model.tokenizer, model.config.conv_version, train=True)
    return {
        "input_ids": torch.tensor(encoded.input_ids),
        "labels": torch.tensor(encoded.labels),
        "pixel_values": torch.stack([model.image_processor(picture(10 * number + date)) for date in range(2)]),
        "modality": "pair",
    }


def test_a_batch_of_pairs_gives_what_one_by_one_gives(model):
    requests = [Request("What changed?", "pair", [picture(n), picture(n + 1)]) for n in range(2)]
    requests.append(Request("What is in the image?", "image", picture(5)))
    with torch.no_grad():
        together = model.embed(**batch_of(model, requests))
        for row, request in enumerate(requests):
            alone = model.embed(**batch_of(model, [request])).inputs_embeds[0]
            torch.testing.assert_close(together.inputs_embeds[row, : len(alone)], alone, atol=1e-5, rtol=0)
    assert model.answer(requests, max_new_tokens=4) == [model.answer([r], max_new_tokens=4)[0] for r in requests]


def test_what_is_saved_loads_bit_equal(model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    again = BTCChat.from_pretrained(tmp_path / "saved", device="cpu")
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    batch = batch_of(model, [Request("What changed?", "pair", [picture(1), picture(2)])])
    assert torch.equal(generate(model, batch, max_new_tokens=6), generate(again, batch, max_new_tokens=6))


def test_the_loss_falls(model):
    """Last in this file: it changes the weights."""
    torch.manual_seed(0)
    model.requires_grad_(True)
    model.train()
    batch = collate([sample(model, number) for number in range(2)], model.tokenizer.pad_token_id)
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
