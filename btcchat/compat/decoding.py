"""Calls to a language model: transformers 4.36 to 5.24 differ in names and in the output of ``generate``."""

import importlib.util
import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from btcchat.errors import BTCChatError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


def cache_argument(decoder: "nn.Module") -> str:
    """The name of the argument that takes a key/value cache: ``past_key_values`` before transformers 5.24."""
    return "cache" if "cache" in inspect.signature(decoder.forward).parameters else "past_key_values"


def takes_finished_masks() -> bool:
    """Whether a mask of four dimensions reaches the attention unchanged, as it does since transformers 4.53."""
    return importlib.util.find_spec("transformers.masking_utils") is not None


def run_with_mask(decoder: "nn.Module", inputs_embeds: "Tensor", mask: "Tensor", position_ids: "Tensor") -> "Tensor":
    """Hidden states (B, N, D) under a finished attention mask, which is added to the scores (B, 1, N, N).

    FlashAttention takes no such mask, so the decoder changes to PyTorch's attention, for good: with activation
    checkpointing its blocks run again in the backward pass. Raises BTCChatError if transformers is too old for that.
    """
    config: Any = decoder.config
    if str(config._attn_implementation).startswith("flash"):
        if not takes_finished_masks():
            raise BTCChatError(
                "independent questions need an attention mask, which flash-attn does not take; update transformers to "
                "4.53 or later, which can do without it, or uninstall flash-attn"
            )
        logger.info("independent questions need an attention mask: PyTorch's attention replaces flash-attn")
        config._attn_implementation = "sdpa"
    with nullcontext() if takes_finished_masks() else _finished(decoder, mask):
        hidden: Tensor = decoder(
            inputs_embeds=inputs_embeds, attention_mask=mask, position_ids=position_ids, use_cache=False
        )[0]
    return hidden


@contextmanager
def _finished(decoder: "nn.Module", mask: "Tensor") -> Iterator[None]:
    """Transformers 4.36 makes the mask of four dimensions itself; within this context it is ``mask``."""
    module = inspect.getmodule(type(decoder))
    names = ("_prepare_4d_causal_attention_mask", "_prepare_4d_causal_attention_mask_for_sdpa")
    made = {name: getattr(module, name) for name in names if hasattr(module, name)}
    for name in made:
        setattr(module, name, lambda *args, **options: mask)
    try:
        yield
    finally:
        for name, function in made.items():
            setattr(module, name, function)


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
