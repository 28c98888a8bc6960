import json

import pytest
import torch
from safetensors.torch import load_file

from btcchat.errors import BTCChatError
from btcchat.multimodal_projector import build_projector
from btcchat.multimodal_projector.protocol import Projector


def build(kind, in_features=6, out_features=10, **options):
    torch.manual_seed(0)
    config = {"mm_projector_type": kind} | options
    return build_projector(config, in_features=in_features, out_features=out_features)


@torch.no_grad()
@pytest.mark.parametrize(("order", "key"), [("column", "output_vila15"), ("row", "output_vila_main")])
def test_every_golden_downsample_set_matches_in_both_token_orders(shared, order, key):
    folders = sorted((shared / "golden/unirs/downsample").iterdir())
    assert folders
    for folder in folders:
        config = json.loads((folder / "config.json").read_text())
        io = load_file(folder / "io.safetensors")
        projector = build(
            config["mm_projector_type"],
            io["features"].shape[-1],
            config["hidden_size"],
            token_order=order,
        )
        weights = load_file(folder / "state_dict.safetensors")
        projector.load_state_dict({name.removeprefix("layers."): value for name, value in weights.items()})
        torch.testing.assert_close(projector(io["features"]), io[key], atol=2e-5, rtol=0)


def test_neighbours_of_an_odd_grid_land_in_one_token_with_zeros_beyond_the_edge():
    downsample = build("mlp_downsample", token_order="row")[0]
    tokens = downsample(torch.arange(1.0, 10.0).view(1, 9, 1))  # 1 2 3 / 4 5 6 / 7 8 9
    assert tokens[0].tolist() == [[1, 2, 4, 5], [3, 0, 6, 0], [7, 8, 0, 0], [9, 0, 0, 0]]


def test_the_published_token_order_goes_down_the_columns():
    features = torch.arange(1.0, 17.0).view(1, 16, 1)
    by_column = build("mlp_downsample")[0](features)[0, :, 0].tolist()
    by_row = build("mlp_downsample", token_order="row")[0](features)[0, :, 0].tolist()
    assert by_column == [1, 9, 3, 11]
    assert by_row == [1, 3, 9, 11]


@pytest.mark.parametrize(
    ("kind", "keys", "tokens"),
    [
        ("mlp_downsample", ["1.bias", "1.weight", "2.bias", "2.weight", "4.bias", "4.weight"], 9),
        ("vila15/mm_projector", ["1.bias", "1.weight", "2.bias", "2.weight", "4.bias", "4.weight"], 9),
        ("mlp1x_gelu", ["0.bias", "0.weight"], 25),
        ("mlp2x_gelu", ["0.bias", "0.weight", "2.bias", "2.weight"], 25),
        ("mlp3x_gelu", ["0.bias", "0.weight", "2.bias", "2.weight", "4.bias", "4.weight"], 25),
        ("linear", ["bias", "weight"], 25),
    ],
)
def test_each_projector_has_the_published_keys_and_token_count(kind, keys, tokens):
    projector = build(kind)
    assert sorted(projector.state_dict()) == keys
    assert isinstance(projector, Projector) and projector.num_tokens(25) == tokens
    assert projector(torch.randn(3, 25, 6)).shape == (3, tokens, 10)


def test_identity_returns_tokens_unchanged_and_needs_equal_widths():
    tokens = torch.randn(2, 25, 6)
    assert torch.equal(build("identity", out_features=6)(tokens), tokens)
    with pytest.raises(BTCChatError, match="got 6 -> 10; choose 'linear'"):
        build("identity")


def test_a_full_size_tower_gives_196_tokens():
    assert build("mlp_downsample").num_tokens(729) == 196


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("mlp_downsampel", {}, r"unknown projector 'mlp_downsampel' \(did you mean 'mlp_downsample'\?\)"),
        ("mlp0x_gelu", {}, r"did you mean 'mlpNx_gelu'\?\); choose from identity, linear, mlpNx_gelu, mlp_downsample"),
        ("mlpNx_gelu", {}, "needs a number of layers N, as in 'mlp2x_gelu'"),
        ("mlp_downsample", {"token_order": "rows"}, "unknown token_order 'rows' .*choose from column, row"),
        ("linear", {"token_order": "row"}, "unknown option 'token_order' of projector 'linear'; it has none"),
    ],
)
def test_an_unknown_name_or_option_lists_the_choices(kind, options, words):
    with pytest.raises(BTCChatError, match=words):
        build(kind, **options)


def test_tokens_that_do_not_fill_a_square_grid_are_an_error_with_the_numbers():
    with pytest.raises(BTCChatError, match="got 24 tokens, expected a square number"):
        build("mlp_downsample")(torch.randn(1, 24, 6))
