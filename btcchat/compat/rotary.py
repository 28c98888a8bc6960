"""One table of sines and cosines for all layers, as transformers has it since 4.45."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaAttention


def build_with_one_table(model_class: type[Any], config: PretrainedConfig, attention: str) -> PreTrainedModel:
    """Build a ``model_class``. transformers 4.36 makes a table for each layer, of max_position_embeddings rows."""
    if not hasattr(LlamaAttention, "_init_rope"):
        model: PreTrainedModel = model_class._from_config(config, attn_implementation=attention)
        keep_frequencies(model)
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


def keep_frequencies(model: nn.Module) -> None:
    """Keep the rotary frequencies of ``model`` in float32 when it is cast, as transformers' own loading does.

    Since 4.45 the angles are computed from them in each pass. Those of bfloat16 are off by up to 0.4%, which at the
    thousandth token is more than a radian.
    """
    for module in model.modules():
        if "inv_freq" in module._buffers:
            module._apply = partial(_apply_exactly, module)  # type: ignore[method-assign]


def _apply_exactly(module: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """As nn.Module's own, which moves and casts, but buffers keep their dtype."""
    before = dict(module._buffers)
    type(module)._apply(module, fn, recurse)
    for name, buffer in before.items():
        after = module._buffers[name]
        if buffer is not None and after is not None and after.dtype != buffer.dtype:
            module._buffers[name] = buffer.to(after.device)
    return module
