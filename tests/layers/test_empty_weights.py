"""Modules built without memory: parameters on the meta device and no initialisation."""

import subprocess
import sys

import torch
from torch import nn

from btcchat.layers.empty_weights import NoInitialValues, init_empty_weights


def test_parameters_have_no_memory_and_buffers_are_real():
    with init_empty_weights():
        norm = nn.BatchNorm1d(3)
    assert norm.weight.is_meta and not norm.running_var.is_meta
    assert norm.weight.requires_grad and norm.running_var.tolist() == [1, 1, 1]


def test_real_tensors_are_initialised_and_meta_tensors_are_not():
    state = torch.get_rng_state()
    with NoInitialValues():
        empty, real = torch.empty(2, device="meta"), torch.zeros(2)
        assert nn.init.normal_(empty) is empty and nn.init.normal_(tensor=empty) is empty
        assert empty.uniform_() is empty and empty.requires_grad_().requires_grad
        real.add_(1)
        assert real.tolist() == [1, 1]
    assert torch.equal(state, torch.get_rng_state())


def test_loading_a_model_does_not_import_torchs_compiler():
    code = """import sys; from btcchat import BTCChat; import transformers.models.llama.modeling_llama
before = set(sys.modules); BTCChat.from_pretrained(); print(*set(sys.modules) - before)"""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True)
    assert {"torch._dynamo", "sympy"}.isdisjoint(run.stdout.split())
