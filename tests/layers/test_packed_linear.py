"""Packed linear layers give the layers' results, and never use outdated weights."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from btcchat.layers import packed_linear
from btcchat.layers.packed_linear import PackedLinear, flop_formulas, packs
from btcchat.multimodal_encoder.siglip import Block

pytestmark = pytest.mark.skipif(not packed_linear._has_operators(), reason="needs oneDNN and a CPU with bfloat16")
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "layer_norm_eps": 1e-6}
BLOCK = SIZES | {"hidden_act": "gelu_pytorch_tanh"}


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return [nn.Linear(32, 48).bfloat16() for _ in range(3)]


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.randn(2, 5, 32).bfloat16()


@torch.no_grad()
def test_layers_side_by_side_and_the_step_after_them(layers, x):
    exact = [F.linear(x.float(), layer.weight.float(), layer.bias.float()) for layer in layers]
    close = {"rtol": 2**-7, "atol": 2**-9}
    torch.testing.assert_close(PackedLinear()(x, *layers).float(), torch.cat(exact, -1), **close)
    for form in ("tanh", "none"):
        expected = F.gelu(exact[0], approximate=form)
        torch.testing.assert_close(PackedLinear()(x, layers[0], gelu=form).float(), expected, **close)
    residual = torch.randn(2, 5, 48).bfloat16()
    found = PackedLinear()(x, layers[0], residual=residual)
    torch.testing.assert_close(found.float(), exact[0] + residual.float(), **close)


@torch.no_grad()
@pytest.mark.parametrize("change", ["in place", "assigned", "bias"])
def test_changed_weights_are_packed_again(layers, x, change):
    packed, layer = PackedLinear(), layers[0]
    packed(x, layer)
    if change == "in place":
        layer.weight.mul_(2)
    elif change == "bias":
        layer.bias.add_(1)
    else:
        layer.load_state_dict(layers[1].state_dict(), assign=True)
    torch.testing.assert_close(packed(x, layer), layer(x), rtol=2**-6, atol=2**-6)


@torch.no_grad()
def test_the_same_weights_are_packed_once(layers, x):
    packed = PackedLinear()
    packed(x, *layers)
    kept = packed._weight
    packed(x, *layers)
    assert packed._weight is kept


def test_only_plain_layers_without_gradients_are_packed(layers, x, monkeypatch):
    assert not packs(x, layers)  # gradients
    with torch.no_grad():
        assert packs(x, layers) and not packs(x.float(), layers)
        assert not packs(x, [*layers, nn.Sequential(layers[0])])
        layers[0].register_forward_hook(lambda *_: None)
        assert not packs(x, layers) and packs(x, layers[1:])
        monkeypatch.setattr(packed_linear, "OPERATORS", ("_not_in_this_torch",))
        assert not packs(x, layers[1:])


@torch.no_grad()
def test_a_block_drops_its_packed_weights_before_it_is_trained():
    block, x = Block(BLOCK).bfloat16().eval(), torch.randn(1, 5, 32).bfloat16()
    before = block(x)
    block.mlp["fc1"].weight.data.mul_(2)  # as DeepSpeed's optimizers do, without changing the version
    block.train().eval()
    assert not torch.equal(block(x), before)
    assert torch.equal(copy.deepcopy(block)(x), block(x))  # a copy packs its own weights


@torch.no_grad()
def test_the_products_of_packed_layers_are_counted(layers, x):
    with FlopCounterMode(display=False, custom_mapping=flop_formulas()) as counter:
        PackedLinear()(x, layers[0], gelu="tanh")
        PackedLinear()(x, layers[0], residual=torch.zeros(2, 5, 48).bfloat16())
    assert counter.get_total_flops() == 2 * (2 * 10 * 32 * 48)
