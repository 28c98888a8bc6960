"""Linear layers with int8 and int4 weights."""

import types

import pytest
import torch
from torch import nn

from btcchat.layers.quantized import cuda
from btcchat.layers.quantized.cpu import KINDS, Int4Linear, Int8Linear, empty, replace, works

SIZES = (64, 48)
ERROR = {"int8": 0.02, "int4": 0.12}  # of the output, relative


@pytest.fixture(params=KINDS)
def kind(request):
    if not works(request.param):
        pytest.skip(f"no {request.param} product on this CPU")
    return request.param


def linear(*sizes: int, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(*(sizes or SIZES), bias=bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_its_output_is_close_to_the_plain_layers(kind, dtype, bias):
    plain = linear(bias=bias)
    x = torch.randn(2, 5, SIZES[0])
    y = KINDS[kind].of(plain)(x.to(dtype))
    assert y.dtype == dtype and y.shape == (2, 5, SIZES[1])
    expected = plain(x)
    assert (y.float() - expected).norm() / expected.norm() < ERROR[kind]


@torch.inference_mode()
def test_int8_gives_a_row_the_same_output_in_a_batch_as_alone():
    layer = Int8Linear.of(linear())
    x = torch.randn(40, SIZES[0]) * torch.logspace(-3, 3, 40)[:, None]
    assert torch.equal(layer(x), torch.cat([layer(row[None]) for row in x]))


@torch.inference_mode()
def test_int8_rounds_inputs_to_the_nearest_of_255_values():
    plain, x = linear(), torch.randn(40, SIZES[0])
    layer = Int8Linear.of(plain)
    scale = x.abs().amax(1, keepdim=True) / 127
    expected = (x / scale).round() @ layer.weight.float().t() * scale * layer.weight_scale + plain.bias
    torch.testing.assert_close(layer(x), expected)


@torch.inference_mode()
def test_rows_of_zeros_give_the_bias(kind):
    layer = KINDS[kind].of(linear())
    torch.testing.assert_close(layer(torch.zeros(1, SIZES[0]))[0], layer.bias, rtol=0, atol=1e-3)


@torch.inference_mode()
def test_weights_of_zeros_do_not_divide_by_zero(kind):
    plain = linear()
    plain.weight.zero_()
    assert torch.allclose(KINDS[kind].of(plain)(torch.randn(3, SIZES[0])), plain.bias.expand(3, -1), atol=1e-6)


@torch.inference_mode()
def test_the_state_is_the_same_before_and_after_the_weights_are_packed(kind):
    layer = KINDS[kind].of(linear())
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    assert list(before) == ["weight", "weight_scale", "bias"]
    x = torch.randn(3, SIZES[0])
    y = layer(x)
    assert layer.weight is None  # replaced by the packed one
    after = layer.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)
    again = empty(kind, linear())
    again.load_state_dict(before, assign=True)
    assert torch.equal(again(x), y)


def test_the_stored_weights_are_small(kind):
    plain = linear(512, 512)
    stored = sum(value.nbytes for value in KINDS[kind].of(plain).state_dict().values())
    assert stored < plain.weight.nbytes * {"int8": 0.26, "int4": 0.17}[kind]


def test_scales_keep_their_precision_when_the_model_is_cast(kind):
    layer = KINDS[kind].of(linear())
    before = layer.weight_scale.clone()
    layer.to(torch.bfloat16)
    assert torch.equal(layer.weight_scale, before) and layer.weight_scale.dtype == before.dtype
    assert layer.bias.dtype == torch.bfloat16 and not layer.weight.is_floating_point()


def test_layers_of_sizes_that_int4_does_not_support_are_not_quantised():
    model = nn.ModuleDict({"a": linear(64, 48), "b": linear(63, 48), "c": linear(64, 47)})
    assert replace("int4", dict(model.items()), model, loaded=True) == 1
    assert [type(layer) for layer in model.values()] == [Int4Linear, nn.Linear, nn.Linear]


@pytest.mark.parametrize("bits", [8, 4])
def test_bitsandbytes_gets_weights_on_the_cpu_and_keeps_the_bias(bits):
    class Layer(nn.Module):
        def __init__(self, *sizes, **options):
            super().__init__()
            self.sizes, self.options = sizes, options

    def holder(weight, **options):
        return nn.Parameter(weight, requires_grad=False)

    modules = types.SimpleNamespace(Linear4bit=Layer, Linear8bitLt=Layer, Params4bit=holder, Int8Params=holder)
    model = nn.ModuleDict({"in": nn.ModuleDict({"q": linear()})})
    plain = model["in"]["q"]
    cuda.replace(types.SimpleNamespace(nn=modules), bits, {"in.q": plain}, model, torch.bfloat16)
    new = model["in"]["q"]
    kinds = {
        4: {"compute_dtype": torch.bfloat16, "quant_type": "nf4"},
        8: {"has_fp16_weights": False, "threshold": 6.0},  # LLM.int8(), with its outliers
    }
    assert (new.sizes, new.options) == ((*SIZES, True), {"device": "meta", **kinds[bits]})
    assert torch.equal(new.weight, plain.weight) and new.bias is plain.bias
