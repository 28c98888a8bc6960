"""Put image features where the placeholders are: token ids + features -> input embeddings, labels, mask.

Vectorised over the batch, without a loop over samples. A merged sample is as long as its ids with each placeholder
replaced by the M features of its segment.
"""

from typing import NamedTuple

import torch

from btcchat.errors import BTCChatError
from btcchat.prompt import IGNORE_INDEX, IMAGE_TOKEN_INDEX

# In training the length of a batch is a multiple of this: oneDNN compiles and keeps a kernel for every new shape.
LENGTH_MULTIPLE = 16


class Merged(NamedTuple):
    inputs_embeds: torch.Tensor  # (B, N', D), zero where padded
    attention_mask: torch.Tensor  # (B, N') 1 = a token
    lengths: list[int]  # tokens of each sample
    labels: torch.Tensor | None  # (B, N')
    learned: torch.Tensor | None  # (n,) flat indices b * N' + i of the labels that the token before predicts
    branches: torch.Tensor | None = None  # (B, N'), 0 where padded
    loss: torch.Tensor | None = None  # added to the loss of the text


def merge(
    embed: torch.nn.Module,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    features: torch.Tensor | None,
    lengths: list[int],
    *,
    labels: torch.Tensor | None = None,
    branches: torch.Tensor | None = None,
    multiple: int = 1,
) -> Merged:
    """Replace each placeholder of ``input_ids`` (B, N) by the next segment's features.

    features: (sum of lengths, D), all segments of the batch in prompt order, or None; lengths: of each segment.
    branches (B, N): see prompt/independent.py; features have the branch of their placeholder.
    Padding of the input (attention_mask 0) is dropped; merged rows are padded on the right, to a length that is a
    multiple of ``multiple``. Keep ids, mask and labels on the CPU: indices are computed there, without waiting for the
    embeddings' device, which has the result.
    Raises BTCChatError if the numbers of placeholders and segments differ.
    """
    device = embed.get_parameter("weight").device
    input_ids, real = input_ids.cpu(), attention_mask.cpu().bool()
    is_image = (input_ids == IMAGE_TOKEN_INDEX) & real
    if int(is_image.sum()) != len(lengths):
        raise BTCChatError(f"the prompts have {int(is_image.sum())} placeholders for {len(lengths)} segments of images")

    repeats = real.long()  # how often each id is in the merged row: 0 = padding
    repeats[is_image] = torch.tensor(lengths, dtype=torch.long)
    flat_ids = input_ids.flatten().repeat_interleave(repeats.flatten())  # (sum N',)
    embeds = embed(_to(device, flat_ids.clamp(min=0)))  # (sum N', D)
    if features is not None:
        holders = (flat_ids == IMAGE_TOKEN_INDEX).nonzero()[:, 0]
        embeds = embeds.index_put((_to(device, holders),), features.to(embeds.dtype))

    rows = repeats.sum(1, keepdim=True)  # (B, 1) merged length of each sample
    width = -(-int(rows.max()) // multiple) * multiple
    mask = torch.arange(width)[None] < rows  # (B, N')
    places = mask.flatten().nonzero()[:, 0]  # those of (B * N') with a token
    inputs_embeds = embeds.new_zeros(mask.numel(), embeds.shape[-1])
    inputs_embeds = inputs_embeds.index_put((_to(device, places),), embeds).unflatten(0, mask.shape)  # (B, N', D)
    merged_labels, learned = None, None
    if labels is not None:
        merged_labels = torch.full(mask.shape, IGNORE_INDEX, dtype=labels.dtype)
        merged_labels[mask] = labels.cpu().flatten().repeat_interleave(repeats.flatten())
        is_learned = merged_labels >= 0
        is_learned[:, 0] = False  # nothing precedes it
        learned = _to(device, is_learned.flatten().nonzero()[:, 0])
        merged_labels = _to(device, merged_labels)
    merged_branches = None
    if branches is not None:
        merged_branches = torch.zeros(mask.shape, dtype=torch.long)
        merged_branches[mask] = branches.cpu().flatten().repeat_interleave(repeats.flatten())
        merged_branches = _to(device, merged_branches)
    return Merged(inputs_embeds, _to(device, mask.long()), rows[:, 0].tolist(), merged_labels, learned, merged_branches)


def _to(device: torch.device, tensor: torch.Tensor) -> torch.Tensor:
    """Copy ``tensor`` without waiting for pending work of the device."""
    return tensor.to(device, non_blocking=True)
