"""Qwen2 (Yang et al. 2024, arXiv:2407.10671), built on transformers' LLaMA.

It is LLaMA with biases on the projections of queries, keys and values.
"""

from typing import Any

from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

# Defaults of the published Qwen2Config that differ from LLaMA's.
DEFAULTS = {
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "bos_token_id": None,
    "eos_token_id": None,
}


class Qwen2Config(LlamaConfig):
    """llm/config.json of model_type qwen2."""

    model_type = "qwen2"

    def __init__(self, **settings: Any):
        super().__init__(**DEFAULTS | settings)


class Qwen2ForCausalLM(LlamaForCausalLM):
    """LLaMA with biases on q_proj, k_proj and v_proj."""

    config_class = Qwen2Config

    def __init__(self, config: Qwen2Config):
        super().__init__(config)
        for layer in self.model.layers:
            for name in ("q_proj", "k_proj", "v_proj"):
                plain = getattr(layer.self_attn, name)
                setattr(layer.self_attn, name, nn.Linear(plain.in_features, plain.out_features))
        self.post_init()
