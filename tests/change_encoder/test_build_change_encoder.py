import pytest
import torch
from torch import nn

from btcchat.change_encoder import CHANGE_ENCODERS, CHG_TYPES, build_change_encoder
from btcchat.change_encoder.attentive import AttentiveEncoder
from btcchat.change_encoder.protocol import ChangeEncoder, MeasuresDistance, PoolsTokens
from btcchat.errors import BTCChatError

SIZES = {"hidden_size": 8, "grid": 3, "num_depths": 1}


def test_the_published_flag_names_the_attentive_encoder_and_its_options_arrive():
    encoder = build_change_encoder({"change_encoder_type": "Chg2Cap", "cc_n_layers": 3, "cc_head": 4}, **SIZES)
    assert type(encoder) is AttentiveEncoder
    assert CHG_TYPES["Chg2Cap"] == "attentive"
    assert len(encoder.selftrans) == 3
    assert encoder.selftrans[0][0].att.heads == 4


@pytest.mark.parametrize("name", CHANGE_ENCODERS)
def test_every_encoder_fulfils_the_contract(name):
    encoder = build_change_encoder({"change_encoder_type": name}, **SIZES).eval()
    features = torch.randn(4, 2, 1, 9, 8)
    assert isinstance(encoder, ChangeEncoder)
    tokens = encoder.num_tokens(9) if isinstance(encoder, PoolsTokens) else 9
    assert encoder(features).shape == (4, encoder.segments, tokens, 8)
    if isinstance(encoder, MeasuresDistance):
        assert encoder.distance(features).shape == (4, 3, 3)


def test_concat_returns_both_dates_unchanged_before_first():
    encoder = build_change_encoder({"change_encoder_type": "concat"}, hidden_size=8, grid=3, num_depths=2)
    features = torch.randn(5, 2, 2, 9, 8)
    tokens = encoder(features)
    assert tokens.shape == (5, encoder.segments, 9, 8)
    assert torch.equal(tokens[:, 0], features[:, 0, -1])
    assert torch.equal(tokens[:, 1], features[:, 1, -1])
    assert list(encoder.parameters()) == []


def test_a_third_party_encoder_is_one_dict_row(monkeypatch):
    class Difference(nn.Module):
        segments = 1

        def __init__(self, *, hidden_size, grid, num_depths, gain=1.0):
            super().__init__()
            self.gain = gain

        def forward(self, features):
            return self.gain * (features[:, 1:, -1] - features[:, :1, -1])

    monkeypatch.setitem(CHANGE_ENCODERS, "difference", Difference)
    encoder = build_change_encoder({"change_encoder_type": "difference", "gain": 2.0}, **SIZES)
    features = torch.randn(4, 2, 1, 9, 8)
    assert torch.equal(encoder(features)[:, 0], 2 * (features[:, 1, 0] - features[:, 0, 0]))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"change_encoder_type": "attentiv"},
            r"unknown change encoder 'attentiv' \(did you mean 'attentive'\?\); choose from attentive, concat",
        ),
        ({}, "unknown change encoder 'None'; choose from attentive, concat"),
        (
            {"change_encoder_type": "attentive", "cc_heads": 8},
            "unknown option 'cc_heads' of change encoder 'attentive'; choose from cc_dropout, cc_head, cc_n_layers",
        ),
        ({"change_encoder_type": "concat", "cc_head": 8}, "unknown option 'cc_head' .* it has none"),
    ],
)
def test_an_unknown_name_or_option_lists_the_choices(config, words):
    with pytest.raises(BTCChatError, match=words):
        build_change_encoder(config, **SIZES)
