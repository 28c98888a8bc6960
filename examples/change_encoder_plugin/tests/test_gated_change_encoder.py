"""What the gated change encoder promises. Copy these tests for an encoder of your own."""

import json

import pytest
import torch

from btcchat import BTCChatError
from btcchat.change_encoder import CHANGE_ENCODERS, build_change_encoder
from btcchat.cli import main
from gated_change_encoder import GatedEncoder

PAIRS, GRID, CHANNELS = 3, 4, 32


def encoder(depths=1, **options):
    torch.manual_seed(0)
    config = {"change_encoder_type": "gated", **options}
    return build_change_encoder(config, hidden_size=CHANNELS, grid=GRID, num_depths=depths).eval()


def features(depths=1):
    """``(P, 2, S, L, C)`` as a vision tower gives them."""
    return torch.randn(PAIRS, 2, depths, GRID**2, CHANNELS, generator=torch.Generator().manual_seed(0))


def test_importing_the_module_registers_the_encoder():
    assert CHANGE_ENCODERS["gated"] is GatedEncoder


@pytest.mark.parametrize("options", [[], ["--option", "width=8"], ["--option", "pool=2", "--grid", "4"]])
def test_it_keeps_the_contract_without_a_warning(options, capsys):
    assert main(["check", "change_encoder", "gated_change_encoder:GatedEncoder", "--json", *options]) == 0
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert [check for check in checks if check["result"] != "pass"] == []


@torch.no_grad()
def test_the_gate_is_shut_where_the_dates_are_equal_and_open_where_they_differ():
    same = features()
    same[:, 1] = same[:, 0]
    assert encoder().distance(same).max() == 0
    same[:, 1, :, 5] += 1  # the token in row 1, column 1
    distance = encoder().distance(same)  # (P, g, g)
    assert distance[:, 1, 1].min() > 0
    distance[:, 1, 1] = 0
    assert distance.max() == 0


@torch.no_grad()
def test_equal_dates_give_the_tokens_of_the_later_date_but_for_a_bias():
    before = features()[:, :1]
    added = encoder()(before.expand(-1, 2, -1, -1, -1))[:, 0] - before[:, 0, -1]  # (P, L, C)
    torch.testing.assert_close(added, added[:1, :1].expand_as(added))


@torch.no_grad()
def test_pooling_averages_squares_of_tokens():
    whole, pooled = encoder()(features()), encoder(pool=2)(features())
    assert whole.shape == (PAIRS, 1, 16, CHANNELS) and pooled.shape == (PAIRS, 1, 4, CHANNELS)
    top_left = whole[:, 0, [0, 1, 4, 5]].mean(1)
    torch.testing.assert_close(pooled[:, 0, 0], top_left)
    assert encoder(pool=2).num_tokens(16) == 4


def test_a_pool_that_does_not_divide_the_grid_is_an_error_in_one_line():
    with pytest.raises(BTCChatError, match="pool is 3, expected a divisor of the grid of 4x4 tokens"):
        encoder(pool=3)


@torch.no_grad()
def test_every_depth_counts():
    seen = features(depths=2)
    tokens = encoder(depths=2)(seen)
    for depth in range(2):
        other = seen.clone()
        other[:, 1, depth] += 1
        assert not torch.allclose(encoder(depths=2)(other), tokens)
