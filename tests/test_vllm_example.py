"""examples/vllm_prompt_embeds.py up to the call of vLLM: a stand-in runs the language model as vLLM would."""

import sys
import types
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from btcchat import BTCChat, BTCChatError
from btcchat.commands.caption import EXAMPLE
from tests.tiny import tiny_model

PAIR = (str(EXAMPLE / "before.png"), str(EXAMPLE / "after.png"))
TOKENS = 12


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "examples"))
    import vllm_prompt_embeds

    return vllm_prompt_embeds


@pytest.fixture
def checkpoint(tmp_path):
    tiny_model(tmp_path).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


class LLM:
    """The part of vllm.LLM that the example calls; transformers writes the answers."""

    def __init__(self, model, **options):
        assert options == {
            "enable_prompt_embeds": True,
            "skip_tokenizer_init": True,
            "dtype": "float32",
            "max_model_len": 512,
        }
        self.model = AutoModelForCausalLM.from_pretrained(model)

    def generate(self, prompts, sampling):
        assert sampling.temperature == 0 and sampling.detokenize is False
        for prompt in prompts:
            (rows,) = prompt.values()
            assert (
                list(prompt) == ["prompt_embeds"]
                and rows.ndim == 2
                and rows.is_contiguous()
                and not rows.is_inference()
            )
            mask = torch.ones(1, len(rows), dtype=torch.long)
            ids = self.model.generate(
                inputs_embeds=rows[None],
                attention_mask=mask,
                max_new_tokens=sampling.max_tokens,
                do_sample=False,
                eos_token_id=sampling.stop_token_ids,
                pad_token_id=0,
            )
            yield types.SimpleNamespace(outputs=[types.SimpleNamespace(token_ids=ids[0].tolist())])


def test_the_answers_equal_those_of_btcchat(example, checkpoint, monkeypatch):
    module = types.SimpleNamespace(LLM=LLM, SamplingParams=types.SimpleNamespace)
    monkeypatch.setitem(sys.modules, "vllm", module)
    model = BTCChat.from_pretrained(checkpoint, device="cpu")
    own = [model.caption(*pair, max_new_tokens=TOKENS) for pair in (PAIR, PAIR[::-1])]
    assert example.captions(model, checkpoint, [PAIR, PAIR[::-1]], TOKENS) == own and own[0]


def test_a_checkpoint_without_a_plain_language_model_is_refused(example, checkpoint):
    model = BTCChat.from_pretrained(checkpoint, device="cpu")
    model.config.quantization = {"kind": "int8", "parts": ["llm"]}
    with pytest.raises(BTCChatError, match="has no language model that vLLM reads"):
        example.engine_options(model, checkpoint)
