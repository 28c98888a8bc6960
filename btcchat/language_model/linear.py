"""The layers of a language model that are quantised."""

from torch import nn
from transformers import PreTrainedModel


def linear_layers(llm: PreTrainedModel) -> dict[str, nn.Linear]:
    """Name -> layer, of all linear layers except the head and those of an adapter."""
    head = llm.get_output_embeddings()
    linear = {name: m for name, m in llm.named_modules() if isinstance(m, nn.Linear) and m is not head}
    return {name: layer for name, layer in linear.items() if "lora_" not in name}
