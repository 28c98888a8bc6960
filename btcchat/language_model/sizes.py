"""Compare the sizes in llm/config.json with the weights before anything of these sizes is built."""

import re
from collections.abc import Iterator

from transformers import PretrainedConfig

from btcchat.checkpoint.weights import MISFIT, Weights
from btcchat.errors import BTCChatError

MOST_ROTARY_BYTES = 2**31  # of the sines and cosines of all positions
# Size in the config -> a weight that has it, and the axis of its shape.
PLACES = {
    "vocab_size": ("model.embed_tokens.weight", 0),
    "hidden_size": ("model.embed_tokens.weight", 1),
    "intermediate_size": ("model.layers.0.mlp.gate_proj.weight", 0),
}


def check_sizes(config: PretrainedConfig, weights: Weights) -> None:
    """Raise BTCChatError naming a size in ``config`` that differs from the weights', of which only headers are read."""
    folder = weights.folder
    for key, configured, has, shape in _compared(config, weights):
        if configured != has:
            raise BTCChatError(
                f"llm/config.json: {key} is {configured}, but the weights in {folder} have {has} ({shape}); {MISFIT}"
            )
    width, heads, positions = config.hidden_size, config.num_attention_heads, config.max_position_embeddings
    if width % heads:
        raise BTCChatError(f"llm/config.json: hidden_size {width} is not a multiple of num_attention_heads {heads}")
    size = _head_size(config)
    if positions * size * 8 > MOST_ROTARY_BYTES:  # a sine and a cosine in float32
        raise BTCChatError(
            f"llm/config.json: max_position_embeddings is {positions:,}, expected at "
            f"most {MOST_ROTARY_BYTES // 8 // size:,} for {heads} heads and hidden_size {width}"
        )


def _head_size(config: PretrainedConfig) -> int:
    """Channels of a head, which Qwen3 gives independently of its hidden_size."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _compared(config: PretrainedConfig, weights: Weights) -> Iterator[tuple[str, int, int, str]]:
    """(key, value in the config, value in the weights, how the latter was found)."""
    for key, (name, axis) in PLACES.items():
        if name in weights.places:
            shape = weights.shape(name)
            if len(shape) > axis:
                yield key, getattr(config, key), shape[axis], f"{weights.key(name)} is {_times(shape)}"
    numbers = (re.match(r"model\.layers\.(\d+)\.", name) for name in weights.places)
    layers = len({number[1] for number in numbers if number})
    yield "num_hidden_layers", config.num_hidden_layers, layers, f"model.layers.0 to {layers - 1}"
    name = "model.layers.0.self_attn.k_proj.weight"
    if name in weights.places and config.hidden_size % config.num_attention_heads == 0:
        rows, size = weights.shape(name)[0], _head_size(config)
        seen = f"{weights.key(name)} has {rows} rows, {size} for each head"
        yield "num_key_value_heads", config.num_key_value_heads, rows // size, seen


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
