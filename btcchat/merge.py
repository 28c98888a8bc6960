"""Put image features where the placeholders are: token ids + features -> input embeddings, labels, mask.

Vectorised over the batch; no loop over samples. Length of a merged sample = its ids, with each placeholder
replaced by the M features of its segment.
"""

from typing import NamedTuple

import torch

from btcchat.errors import BTCChatError
from btcchat.prompt import IGNORE_INDEX, IMAGE_TOKEN_INDEX

# In training the length of a batch is a multiple of this: oneDNN makes a kernel for every new shape, and keeps it.
LENGTH_MULTIPLE = 16


class Merged(NamedTuple):
    inputs_embeds: torch.Tensor  # (B, N', D), zero where padded
    attention_mask: torch.Tensor  # (B, N') 1 = a token
    position_ids: torch.Tensor  # (B, N') 0.. from each sample's first token
    labels: torch.Tensor | None  # (B, N')


def merge(
    embed: torch.nn.Module,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    features: torch.Tensor | None,
    lengths: list[int],
    *,
    labels: torch.Tensor | None = None,
    multiple: int = 1,
) -> Merged:
    """Replace each placeholder of ``input_ids`` (B, N) by the next segment's features.

    features: (sum of lengths, D), all segments of the batch in prompt order, None without; lengths: of each segment.
    Padding of the input (attention_mask 0) is dropped; the merged rows are padded on the right, to a length that is a
    ``multiple``.
    Raises BTCChatError when placeholders and segments do not match in number.
    """
    is_image = (input_ids == IMAGE_TOKEN_INDEX) & attention_mask.bool()
    if int(is_image.sum()) != len(lengths):
        raise BTCChatError(f"the prompts hold {int(is_image.sum())} image placeholders, the images make {len(lengths)}")

    repeats = attention_mask.long()  # how often each id stands in the merged row: 0 = padding
    repeats = repeats.masked_scatter(is_image, torch.tensor(lengths, dtype=torch.long, device=input_ids.device))
    flat_ids = input_ids.flatten().repeat_interleave(repeats.flatten())  # (sum N',)
    embeds = embed(flat_ids.clamp(min=0))  # (sum N', D)
    if features is not None:
        where = (flat_ids == IMAGE_TOKEN_INDEX).nonzero()[:, 0]
        embeds = embeds.index_put((where,), features.to(embeds.dtype))

    rows = repeats.sum(1, keepdim=True)  # (B, 1) merged length of each sample
    width = -(-int(rows.max()) // multiple) * multiple
    column = torch.arange(width, device=input_ids.device)[None]  # (1, N')
    mask = column < rows
    inputs_embeds = embeds.new_zeros(*mask.shape, embeds.shape[-1])
    inputs_embeds = inputs_embeds.index_put((mask.nonzero(as_tuple=True)), embeds)  # (B, N', D)
    merged_labels = None
    if labels is not None:
        flat_labels = labels.flatten().repeat_interleave(repeats.flatten())
        merged_labels = torch.full(mask.shape, IGNORE_INDEX, dtype=labels.dtype, device=labels.device)
        merged_labels = merged_labels.masked_scatter(mask, flat_labels)
    position_ids = (mask.long().cumsum(1) - 1).clamp(min=0)
    return Merged(inputs_embeds, mask.long(), position_ids, merged_labels)
