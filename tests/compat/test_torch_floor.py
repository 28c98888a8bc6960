"""torch before 2.4 and 2.5 lacks two functions, and is used without them."""

import numpy as np
import torch

from btcchat.api import BTCChat
from btcchat.checkpoint.load import pick_dtype
from btcchat.compat.torch_floor import has_fast_bfloat16
from btcchat.compat.training import allow_random_states


def test_a_torch_that_cannot_say_whether_bfloat16_is_fast_computes_in_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert has_fast_bfloat16() is True
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert has_fast_bfloat16() is False
    monkeypatch.setattr("btcchat.checkpoint.load.SMALL", -1)
    (tmp_path / "config.json").write_text('{"torch_dtype": "bfloat16"}')
    assert pick_dtype("auto", "cpu", tmp_path) == torch.float32
    assert next(BTCChat.from_pretrained(device="cpu").parameters()).dtype == torch.float32


def test_a_torch_that_reads_random_states_anyway_is_not_asked_to(tmp_path, monkeypatch):
    allow_random_states()
    torch.save(np.random.RandomState(0).get_state(), tmp_path / "state.pth")
    assert torch.load(tmp_path / "state.pth", weights_only=True)[0] == "MT19937"
    monkeypatch.delattr(torch.serialization, "add_safe_globals")
    allow_random_states()
