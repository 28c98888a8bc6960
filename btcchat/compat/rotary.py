"""One table of sines and cosines for all layers, as transformers has it since 4.45."""

from typing import Any

from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaAttention


def build_with_one_table(model_class: type[Any], config: PretrainedConfig, attention: str) -> PreTrainedModel:
    """Build a ``model_class``. transformers 4.36 makes a table for each layer, of max_position_embeddings rows."""
    if not hasattr(LlamaAttention, "_init_rope"):
        model: PreTrainedModel = model_class._from_config(config, attn_implementation=attention)
        return model
    positions, config.max_position_embeddings = config.max_position_embeddings, 1
    model = model_class._from_config(config, attn_implementation=attention)
    model.config.max_position_embeddings = positions
    layers: list[Any] = [layer.self_attn for layer in model.model.layers]
    for layer in layers:
        layer.max_position_embeddings = positions
    layers[0]._init_rope()
    for layer in layers[1:]:
        layer.rotary_emb = layers[0].rotary_emb
    return model
