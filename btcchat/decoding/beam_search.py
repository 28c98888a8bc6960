"""Beam search, by transformers' generate."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LogitsProcessorList

from btcchat import prompt
from btcchat.compat.decoding import new_tokens
from btcchat.errors import BTCChatError

if TYPE_CHECKING:
    from btcchat.model import BTCChatModel

NOT_FINITE = "the model computes values that are not finite (NaN or infinity); check its weights, or try another dtype"


@torch.no_grad()
def search(model: "BTCChatModel", prompts: Sequence[Tensor], *, num_beams: int, max_new_tokens: int) -> list[list[int]]:
    """Prompts (N, D) -> the new ids of each, including the id that ends an answer."""
    llm: Any = model.llm
    longest = max(map(len, prompts))
    padded = torch.stack([F.pad(row, (0, 0, longest - len(row), 0)) for row in prompts])  # (B, longest, D)
    starts = torch.tensor([longest - len(row) for row in prompts], device=padded.device)[:, None]
    end_ids = prompt.end_ids(model.tokenizer, model.config.conv_version)
    with _last_only(llm.get_output_embeddings()):
        found = llm.generate(
            inputs_embeds=padded,
            attention_mask=(torch.arange(longest, device=padded.device) >= starts).long(),
            max_new_tokens=max_new_tokens,
            num_beams=num_beams,
            do_sample=False,
            pad_token_id=model.tokenizer.pad_token_id,
            eos_token_id=end_ids,
            bos_token_id=model.tokenizer.pad_token_id,  # only fills the column that new_tokens drops
            logits_processor=LogitsProcessorList([_check_finite]),
            use_cache=True,
        )
    return [_to_end(ids, end_ids) for ids in new_tokens(found).tolist()]


def _check_finite(ids: Tensor, scores: Tensor) -> Tensor:
    if not scores.max(-1).values.isfinite().all():
        raise BTCChatError(NOT_FINITE)
    return scores


def _to_end(ids: list[int], end_ids: Sequence[int]) -> list[int]:
    """``ids`` without the padding."""
    end = next((place for place, id in enumerate(ids) if id in end_ids), len(ids) - 1)
    return ids[: end + 1]


@contextmanager
def _last_only(head: nn.Module) -> Iterator[None]:
    """Compute logits of a row's last token only: transformers 4.36 computes them for every token of the prompt."""
    hook = head.register_forward_pre_hook(lambda _, hidden: (hidden[0][:, -1:],))
    try:
        yield
    finally:
        hook.remove()
