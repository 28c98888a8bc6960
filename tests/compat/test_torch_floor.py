"""torch before 2.5 works without a function that it lacks."""

import torch

from btcchat.api import BTCChat
from btcchat.checkpoint.load import pick_dtype
from btcchat.compat.torch_floor import has_fast_bfloat16


def test_a_torch_that_cannot_tell_whether_bfloat16_is_fast_computes_in_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert has_fast_bfloat16() is True
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert has_fast_bfloat16() is False
    monkeypatch.setattr("btcchat.checkpoint.load.SMALL", -1)
    (tmp_path / "config.json").write_text('{"torch_dtype": "bfloat16"}')
    assert pick_dtype("auto", "cpu", tmp_path) == torch.float32
    assert next(BTCChat.from_pretrained(device="cpu").parameters()).dtype == torch.float32
