import json
import math
import re

import pytest
import torch
from safetensors.torch import load_file

from btcchat.change_encoder import build_change_encoder
from btcchat.change_encoder.attentive import UNUSED_KEYS, AttentiveEncoder
from btcchat.errors import BTCChatError
from btcchat.multimodal_projector import build_projector


def tiny_encoder(layers=1, grid=4, width=12, **options):
    torch.manual_seed(0)
    return AttentiveEncoder(hidden_size=width, grid=grid, cc_n_layers=layers, **options).eval()


def without_unused(weights):
    return {key: value for key, value in weights.items() if not any(re.fullmatch(p, key) for p in UNUSED_KEYS)}


@torch.no_grad()
def test_every_golden_set_matches(shared):
    folders = sorted((shared / "golden/unirs").glob("attentive_*"))
    assert folders
    for folder in folders:
        config = json.loads((folder / "config.json").read_text())
        io = load_file(folder / "io.safetensors")
        pairs = torch.stack([io["img1"], io["img2"]], dim=1)[:, :, None]  # (P, 2, 1, L, C)
        encoder = build_change_encoder(
            {
                "change_encoder_type": "attentive",
                "cc_n_layers": config["constructor"]["n_layers"],
                "cc_head": config["constructor"]["heads"],
                "cc_dropout": config["constructor"]["dropout"],
            },
            hidden_size=pairs.shape[-1],
            grid=math.isqrt(pairs.shape[-2]),
            num_depths=1,
        ).eval()
        encoder.load_state_dict(without_unused(load_file(folder / "state_dict.safetensors")))
        torch.testing.assert_close(encoder(pairs)[:, 0], io["output"], atol=2e-4, rtol=0)
        torch.testing.assert_close(encoder.cosine_field(pairs), io["cos_map"], atol=2e-5, rtol=0)
        swapped = encoder(pairs[:1].flip(1))[:, 0]
        torch.testing.assert_close(swapped, io["output_pair0_swapped"], atol=2e-4, rtol=0)


@torch.no_grad()
def test_the_golden_projector_sets_match_with_their_pairs_fused(shared):
    folders = sorted((shared / "golden/unirs/projector").iterdir())
    assert folders
    for folder in folders:
        config = json.loads((folder / "config.json").read_text())
        options, frames = config["config"]["mm_projector_cfg"], config["config"]["num_video_frames"]
        weights, io = load_file(folder / "state_dict.safetensors"), load_file(folder / "io.safetensors")
        width, grid = io["features"].shape[-1], config["grid"]
        encoder = build_change_encoder(
            {"change_encoder_type": "Chg2Cap"} | options, hidden_size=width, grid=grid, num_depths=1
        ).eval()
        change = {key.removeprefix("change."): v for key, v in weights.items() if key.startswith("change.")}
        encoder.load_state_dict(without_unused(change))
        projector = build_projector(
            {"mm_projector_type": "mlp_downsample"},
            in_features=width,
            out_features=config["config"]["hidden_size"],
        )
        projector.load_state_dict(
            {key.removeprefix("single."): v for key, v in weights.items() if key.startswith("single.")}
        )

        segments, fused = [], []
        for features in io["features"].split(config["im_num"]):
            if len(features) == 2:
                fused.append(encoder(features[None, :, None])[0])
                segments.append(fused[-1])
            else:
                assert len(features) in (1, frames)
                segments.append(features)
        torch.testing.assert_close(torch.cat(fused), io["fused_pairs"], atol=2e-4, rtol=0)
        torch.testing.assert_close(projector(torch.cat(segments)), io["output"], atol=2e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("grid", [1, 3, 4])
def test_a_batch_of_pairs_equals_one_by_one(layers, grid):
    encoder = tiny_encoder(layers, grid)
    pairs = torch.randn(5, 2, 1, grid * grid, 12)
    together = encoder(pairs)
    assert together.shape == (5, encoder.segments, grid * grid, 12)
    apart = torch.cat([encoder(pair[None]) for pair in pairs])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("layers", [0, 2])
def test_swapping_the_dates_changes_the_tokens(layers):
    encoder, pairs = tiny_encoder(layers), torch.randn(2, 2, 1, 16, 12)
    assert (encoder(pairs) - encoder(pairs.flip(1))).abs().max() > 0.1


@torch.no_grad()
def test_the_cosine_field_is_one_where_nothing_changed_and_lower_where_something_did():
    encoder = tiny_encoder(layers=0)
    before = torch.randn(1, 1, 16, 12)
    after = before.clone()
    after[:, :, 1 * 4 + 2] *= -1  # row 1, column 2
    field = encoder.cosine_field(torch.stack([before, after], dim=1))[0]
    assert field.shape == (4, 4)
    assert field.argmin() == 1 * 4 + 2
    unchanged = field.flatten()[torch.arange(16) != 6]
    torch.testing.assert_close(unchanged, torch.ones(15))
    assert field[1, 2] < 0.9


@torch.no_grad()
def test_positions_are_looked_up_by_column_in_h_and_by_row_in_w():
    encoder = tiny_encoder(grid=3, width=4)
    position = encoder._position("cpu").view(3, 3, 4)
    torch.testing.assert_close(
        position[0, 2], torch.cat([encoder.h_embedding.weight[2], encoder.w_embedding.weight[0]])
    )


@torch.no_grad()
def test_half_precision_follows_the_input_with_the_cosine_in_float32():
    encoder, pairs = tiny_encoder(layers=1), torch.randn(2, 2, 1, 16, 12)
    exact = encoder(pairs)
    half = encoder.to(torch.bfloat16)(pairs.bfloat16())
    assert half.dtype == torch.bfloat16
    assert encoder.cosine_field(pairs.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(half.float(), exact, atol=0.1, rtol=0.05)


def test_batchnorm_statistics_change_in_training_and_not_in_eval():
    encoder, pairs = tiny_encoder(), torch.randn(2, 2, 1, 16, 12)
    before = encoder.LN.left[1].running_mean.clone()
    encoder(pairs)
    assert torch.equal(encoder.LN.left[1].running_mean, before)
    encoder.train()(pairs)
    assert not torch.equal(encoder.LN.left[1].running_mean, before)


def test_every_parameter_gets_a_gradient():
    encoder = tiny_encoder(layers=2).train()
    encoder(torch.randn(3, 2, 1, 16, 12)).pow(2).sum().backward()
    without = [name for name, parameter in encoder.named_parameters() if parameter.grad is None]
    assert without == []


def test_dropout_is_active_in_training_only():
    encoder, pairs = tiny_encoder(cc_dropout=0.5), torch.randn(2, 2, 1, 16, 12)
    assert torch.equal(encoder(pairs), encoder(pairs))
    for block in encoder.selftrans:
        block.train()
    assert not torch.equal(encoder(pairs), encoder(pairs))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_depths": 4}, "takes one depth, got 4"),
        ({"cc_head": 7}, "cc_head 7 does not divide the attention width of 512"),
        ({"cc_head": 0}, "cc_head 0"),
        ({"width": 13}, "needs an even hidden size, got 13"),
    ],
)
def test_sizes_that_do_not_fit_are_errors_when_built(options, words):
    with pytest.raises(BTCChatError, match=words):
        tiny_encoder(**options)


@pytest.mark.parametrize("shape", [(1, 2, 1, 15, 12), (1, 1, 1, 16, 12), (1, 2, 2, 16, 12)])
def test_features_of_another_shape_are_an_error_naming_it(shape):
    with pytest.raises(BTCChatError, match=re.escape(str(shape))):
        tiny_encoder()(torch.zeros(shape))
