"""Image features land on their placeholders, and nothing else moves."""

import pytest
import torch
from torch import nn

from btcchat.errors import BTCChatError
from btcchat.merge import merge
from btcchat.prompt import IGNORE_INDEX, IMAGE_TOKEN_INDEX

IMG = IMAGE_TOKEN_INDEX


@pytest.fixture
def embed():
    """Token i becomes the vector (i, i)."""
    layer = nn.Embedding(50, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(50.0)[:, None].expand(50, 2))
    return layer


def test_features_land_on_their_placeholders_in_prompt_order(embed):
    ids = torch.tensor([[1, IMG, 2, IMG, 3], [4, 5, IMG, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    features = -torch.arange(1.0, 7)[:, None].expand(6, 2)  # -1 .. -6
    merged = merge(embed, ids, mask, features, [2, 1, 3])
    assert merged.inputs_embeds[0, :, 0].tolist() == [1, -1, -2, 2, -3, 3]
    assert merged.inputs_embeds[1, :, 0].tolist() == [4, 5, -4, -5, -6, 0]
    assert merged.attention_mask.tolist() == [[1] * 6, [1] * 5 + [0]]


def test_labels_are_masked_on_image_tokens_and_padding(embed):
    ids = torch.tensor([[1, IMG, 7], [8, 0, 0]])
    labels = torch.tensor([[IGNORE_INDEX, IGNORE_INDEX, 7], [8, IGNORE_INDEX, IGNORE_INDEX]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    merged = merge(embed, ids, mask, torch.zeros(2, 2), [2], labels=labels)
    assert merged.labels.tolist() == [[-100, -100, -100, 7], [8, -100, -100, -100]]


def test_every_label_is_learned_except_that_of_a_first_token(embed):
    ids = torch.tensor([[1, IMG, 7], [8, 9, 0]])
    labels = torch.tensor([[IGNORE_INDEX, IGNORE_INDEX, 7], [8, 9, IGNORE_INDEX]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    merged = merge(embed, ids, mask, torch.zeros(2, 2), [2], labels=labels)
    assert merged.learned.tolist() == [3, 5] and merged.labels.flatten()[merged.learned].tolist() == [7, 9]
    assert merge(embed, ids, mask, torch.zeros(2, 2), [2]).learned is None


def test_a_length_is_a_multiple_if_requested(embed):
    ids, mask = torch.tensor([[1, IMG, 7], [8, 0, 0]]), torch.tensor([[1, 1, 1], [1, 0, 0]])
    exact = merge(embed, ids, mask, torch.ones(2, 2), [2], labels=ids)
    padded = merge(embed, ids, mask, torch.ones(2, 2), [2], labels=ids, multiple=8)
    assert padded.inputs_embeds.shape == (2, 8, 2) and padded.attention_mask.sum() == exact.attention_mask.sum()
    real, was = padded.attention_mask.bool(), exact.attention_mask.bool()
    for name in ("inputs_embeds", "attention_mask", "labels"):
        assert getattr(padded, name)[real].equal(getattr(exact, name)[was])
    assert padded.lengths == exact.lengths == [4, 1]
    assert padded.labels[~real].eq(IGNORE_INDEX).all()
    assert merge(embed, ids, mask, torch.ones(2, 2), [2], multiple=4).labels is None  # 4 already


def test_a_real_token_with_the_padding_id_is_kept(embed):
    merged = merge(embed, torch.tensor([[3, 0, 5]]), torch.ones(1, 3, dtype=torch.long), torch.zeros(0, 2), [])
    assert merged.inputs_embeds[0, :, 0].tolist() == [3, 0, 5]


def test_gradients_reach_features_and_embeddings(embed):
    features = torch.zeros(2, 2, requires_grad=True)
    merge(embed, torch.tensor([[1, IMG]]), torch.ones(1, 2), features, [2]).inputs_embeds.sum().backward()
    assert features.grad.eq(1).all() and embed.weight.grad[1].eq(1).all() and not embed.weight.grad[2].any()


def test_the_error_for_a_wrong_number_of_placeholders_gives_both_numbers(embed):
    with pytest.raises(BTCChatError, match="have 1 placeholders for 2 segments of images"):
        merge(embed, torch.tensor([[1, IMG]]), torch.ones(1, 2), torch.zeros(2, 2), [1, 1])
