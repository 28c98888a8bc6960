"""The difference_aware change encoder; its numbers are compared in tests/test_golden.py."""

import pytest
import torch

from btcchat.change_encoder import build_change_encoder
from btcchat.errors import BTCChatError


def encoder(grid: int = 4, width: int = 16, depths: int = 3, **options):
    torch.manual_seed(0)
    config = {"change_encoder_type": "difference_aware", **options}
    return build_change_encoder(config, hidden_size=width, grid=grid, num_depths=depths).eval()


@pytest.fixture
def pairs():
    return torch.randn(3, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0))  # (P, dates, S, L, C)


@torch.no_grad()
def test_a_batch_of_pairs_gives_the_same_as_one_by_one(pairs):
    module = encoder()
    together = module(pairs)
    assert together.shape == (3, 2, 16, 16)
    alone = torch.cat([module(pair[None]) for pair in pairs])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


@torch.no_grad()
def test_swapping_the_dates_is_not_swapping_the_tokens(pairs):
    module = encoder()
    assert not torch.allclose(module(pairs.flip(1)).flip(1), module(pairs), atol=1e-4)


@torch.no_grad()
def test_every_depth_changes_the_output(pairs):
    module = encoder()
    before = module(pairs)
    for depth in range(3):
        other = pairs.clone()
        other[:, :, depth] += 1
        assert not torch.allclose(module(other), before, atol=1e-4), f"depth {depth}"


@torch.no_grad()
def test_tokens_are_averaged_in_squares(pairs):
    full = encoder()(pairs).unflatten(2, (4, 4))  # (P, 2, 4, 4, C)
    half = encoder(downsample_ratio=2)(pairs)
    assert half.shape == (3, 2, 4, 16)
    torch.testing.assert_close(half[:, :, 1], full[:, :, 0:2, 2:4].mean((2, 3)), atol=1e-6, rtol=0)


def test_every_weight_gets_a_gradient(pairs):
    module = encoder().train()
    module(pairs).square().mean().backward()
    assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"downsample_ratio": 3}, "downsample_ratio 3 does not divide the 4x4 tokens"),
        ({"per_expert_depth": 0}, "per_expert_depth is 0, expected 1 or more"),
        ({"cc_n_layers": 1}, "unknown option 'cc_n_layers' of change encoder 'difference_aware'; choose from"),
    ],
)
def test_wrong_options_give_one_clear_line(options, message):
    with pytest.raises(BTCChatError, match=message):
        encoder(**options)


def test_a_missing_token_is_reported_with_the_way_out(pairs):
    with pytest.raises(BTCChatError, match=r"expected 2 dates, 4x4 tokens; .*mm_vision_select_feature to 'cls_patch'"):
        encoder()(pairs[:, :, :, 1:])
