"""The faster forms of two operators give the operators' results."""

import pytest
import torch
import torch.nn.functional as F

from btcchat.layers import bf16_cpu
from btcchat.layers.bf16_cpu import attention, gelu
from btcchat.multimodal_encoder import siglip
from btcchat.multimodal_encoder.siglip import SiglipTower


@torch.no_grad()
def test_gelu_equals_the_exact_function_rounded_once(monkeypatch):
    monkeypatch.setattr(bf16_cpu, "CHUNK", 1000)
    x = torch.cat([torch.linspace(-30, 30, 4999), torch.tensor([0.0])]).bfloat16().view(2, 2500)
    expected = F.gelu(x, approximate="tanh")
    found = gelu(x.clone(), "tanh")
    exact = F.gelu(x.double(), approximate="tanh")
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-12)
    near = x > -2  # below, 1 + tanh in torch's own loses digits
    assert (found == expected)[near].float().mean() > 0.99
    other = gelu(x.clone(), "none")
    assert torch.equal(other, F.gelu(x)) and not torch.equal(other, expected)


@pytest.mark.parametrize("tokens", [729, 256, 31])
def test_attention_with_masked_keys_equals_attention_without_them(tokens):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, tokens, 16).bfloat16() for _ in range(3))
    expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float())
    with torch.no_grad():
        torch.testing.assert_close(attention(q, k, v).float(), expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("tokens", [144, 300])
def test_attention_with_gradients_matches_float32(tokens, autocast):
    torch.manual_seed(0)
    exact = [torch.randn(2, 3, tokens, 16).bfloat16().float().requires_grad_() for _ in range(3)]
    rounded = [x.detach().bfloat16().requires_grad_() for x in exact]
    weights = torch.randn(2, 3, tokens, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        found = attention(*rounded)
    expected = F.scaled_dot_product_attention(*exact)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.02)
    (found.float() * weights).sum().backward()
    (expected * weights).sum().backward()
    for one, other in zip(rounded, exact, strict=True):
        torch.testing.assert_close(one.grad.float(), other.grad, rtol=0, atol=0.03)


def test_gelu_with_gradients_keeps_its_input():
    x = torch.randn(4, 8, dtype=torch.bfloat16, requires_grad=True)
    before = x.detach().clone()
    gelu(x, "tanh").sum().backward()
    assert torch.equal(x.detach(), before) and x.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_images_in_parts_give_the_features_of_all_at_once(monkeypatch, dtype):
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    tower = SiglipTower(small | {"image_size": 136, "patch_size": 8}, select_layer=[0, -2]).to(dtype)  # 289 tokens
    images = torch.randn(5, 3, 136, 136)
    whole = tower(images)
    sizes = []
    monkeypatch.setattr(siglip, "PART", 2 * 289 * 64 * whole[0].element_size())
    tower.vision_model["encoder"]["layers"][0].register_forward_hook(lambda _, x, y: sizes.append(len(y)))
    with torch.no_grad():
        parts = tower(images)
    assert sizes == [2, 2, 1]
    tolerance = 1e-5 if dtype == torch.float32 else 0.1  # two bfloat16 steps at the largest value
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)
