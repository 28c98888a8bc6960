"""Calls to a language model: transformers 4.36 to 5.24 differ in names and in the output of ``generate``."""

import importlib.util
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


def cache_argument(decoder: "nn.Module") -> str:
    """The name of the argument that takes a key/value cache: ``past_key_values`` before transformers 5.24."""
    return "cache" if "cache" in inspect.signature(decoder.forward).parameters else "past_key_values"


def takes_finished_masks() -> bool:
    """Whether a mask of four dimensions reaches the attention unchanged, as it does since transformers 4.53."""
    return importlib.util.find_spec("transformers.masking_utils") is not None


def recomputes(llm: "PreTrainedModel") -> bool:
    """Whether `checkpoint_activations` was called."""
    name = "is_activation_checkpointing" if hasattr(llm, "is_activation_checkpointing") else "is_gradient_checkpointing"
    return bool(getattr(llm, name))


def new_tokens(ids: "Tensor") -> "Tensor":
    """The output of ``generate(inputs_embeds=...)`` without the BOS column that transformers before 4.38 puts first."""
    import transformers
    from packaging.version import Version

    return ids[:, 1:] if Version(transformers.__version__) < Version("4.38") else ids


def checkpoint_activations(llm: "PreTrainedModel", options: dict[str, Any], every_n_layers: int) -> None:
    """Recompute every n-th block in the backward pass. Before transformers 5.24 the name differs, and n is 1."""
    if hasattr(llm, "activation_checkpointing_enable"):
        llm.activation_checkpointing_enable(activation_checkpointing_kwargs=options, every_n_layers=every_n_layers)
    else:
        llm.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
