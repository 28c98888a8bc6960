"""The norm that a GPU computes in one kernel equals transformers' own, which is used everywhere else."""

import copy

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from btcchat.language_model import norms
from btcchat.language_model.norms import FusedRMSNorm, fuse_norms, is_fused
from tests.tiny import tiny_model


@pytest.mark.parametrize("llm", ["llama", "qwen2"])
def test_every_norm_of_a_language_model_can_be_fused(tmp_path, llm):
    model = tiny_model(tmp_path, llm=llm).llm
    found = [module for module in model.modules() if isinstance(module, LlamaRMSNorm)]
    assert found and all(type(module) is FusedRMSNorm for module in found)
    assert type(copy.deepcopy(found[0])) is FusedRMSNorm


@pytest.fixture
def both(monkeypatch):
    """transformers' norm, and its fused copy."""
    if not hasattr(torch.nn.functional, "rms_norm"):
        pytest.skip("torch before 2.4")
    torch.manual_seed(0)
    plain = LlamaRMSNorm(64, eps=1e-5)
    plain.weight.data.normal_()
    fused = copy.deepcopy(plain)
    fuse_norms(fused)
    monkeypatch.setattr(norms, "is_fused", lambda x, weight: True)
    return plain, fused


def test_the_fused_norm_and_its_gradients_equal_the_plain_ones(both):
    x = torch.randn(3, 64)
    given = [x.clone().requires_grad_() for _ in both]
    found = [module(one) for module, one in zip(both, given, strict=True)]
    torch.testing.assert_close(found[1], found[0])
    for one in found:
        one.square().sum().backward()
    torch.testing.assert_close(given[1].grad, given[0].grad)
    torch.testing.assert_close(both[1].weight.grad, both[0].weight.grad)


def test_in_bfloat16_it_is_as_exact_as_the_plain_one(both):
    x = torch.randn(3, 64)
    exact = both[0](x)
    plain, fused = (float((module.bfloat16()(x.bfloat16()).float() - exact).abs().mean()) for module in both)
    assert fused <= plain


def test_a_cpu_uses_transformers_own_norm(monkeypatch):
    monkeypatch.setattr(norms.F, "rms_norm", None, raising=False)
    norm = FusedRMSNorm(8)
    assert norm(torch.ones(2, 8)).shape == (2, 8)


def test_mixed_dtypes_are_not_fused():
    on_gpu = torch.empty(1, device="meta").expand(2)

    class Gpu:
        device = torch.device("cuda")

        def __init__(self, dtype):
            self.dtype = dtype

    assert is_fused(Gpu(torch.bfloat16), Gpu(torch.bfloat16)) == hasattr(torch.nn.functional, "rms_norm")
    assert not is_fused(Gpu(torch.bfloat16), Gpu(torch.float32)) and not is_fused(on_gpu, on_gpu)
