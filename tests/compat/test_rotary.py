"""Rotary frequencies: casting a model does not round them, or later tokens would be rotated by wrong angles."""

import copy
import pickle

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaAttention

from btcchat import BTCChat
from tests.tiny import tiny_model

pytestmark = pytest.mark.skipif(hasattr(LlamaAttention, "_init_rope"), reason="this transformers has tables of cosines")
PLACES = torch.tensor([[0, 1, 100, 500]])


def cosines(llm, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    found: torch.Tensor = llm.get_decoder().rotary_emb(torch.zeros(1, 1, dtype=dtype), PLACES)[0]
    return found


@pytest.mark.parametrize("llm", ["llama", "qwen2"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_that_is_cast_rotates_by_the_same_angles(tmp_path, llm, dtype):
    model = tiny_model(tmp_path, llm=llm)
    exact = cosines(model.llm)
    assert torch.equal(cosines(model.to("cpu", dtype).llm, dtype), exact.to(dtype))
    assert torch.equal(cosines(model.float().llm), exact), "and nothing is lost on the way back"


def test_a_checkpoint_loaded_in_bfloat16_rotates_by_the_same_angles():
    exact = cosines(BTCChat.from_pretrained("tiny", device="cpu", dtype="float32").llm)
    loaded = BTCChat.from_pretrained("tiny", device="cpu", dtype="bfloat16").llm
    assert loaded.dtype == torch.bfloat16
    assert torch.equal(cosines(loaded, torch.bfloat16), exact.bfloat16())


@pytest.mark.parametrize("again", [copy.deepcopy, lambda llm: pickle.loads(pickle.dumps(llm))])  # noqa: S301
def test_copies_keep_them_too_and_are_separate(tmp_path, again):
    llm = tiny_model(tmp_path).llm
    exact, other = cosines(llm), again(llm).bfloat16()
    assert torch.equal(cosines(other), exact)
    assert llm.dtype == torch.float32 and llm.get_decoder().rotary_emb.inv_freq.device.type == "cpu"
    other.to("meta")
    assert torch.equal(cosines(llm), exact)
