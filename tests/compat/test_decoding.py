"""Calls to a language model work in every version of transformers."""

import warnings

import pytest
import torch

from btcchat.compat.decoding import recomputes
from btcchat.generation import generate_ids
from btcchat.layers.key_value_cache import KeyValueCache
from btcchat.processor import request
from tests.tiny import tiny_model


@pytest.fixture
def model(tmp_path):
    return tiny_model(tmp_path)


@pytest.mark.parametrize("every", [1, 2])
def test_blocks_are_recomputed_whatever_the_method_is_called(model, every):
    assert not recomputes(model.llm)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        model.gradient_checkpointing_enable(every_n_layers=every)
        model.train()
        assert recomputes(model.llm)


@torch.no_grad()
def test_our_cache_is_accepted_without_a_warning_and_matches_a_full_pass(model):
    decoder, embed = model.llm.get_decoder(), model.llm.get_input_embeddings()
    embedded = embed(torch.arange(7)[None])  # (1, 7, D)
    cache = KeyValueCache()
    cache.reserve(1, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        cache.prefill(decoder, embedded[:, :6], [6])
        hidden = cache.extend(decoder, embedded[:, 6:])
    torch.testing.assert_close(hidden, decoder(inputs_embeds=embedded, use_cache=False)[0][:, -1:])
    assert generate_ids(model, model.processor.collate([model.processor(request("houses", "text"), train=False)]))
