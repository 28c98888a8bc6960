"""From samples to a batch."""

from collections.abc import Callable

import torch

from btcchat.data.mixture.faults import BadSample
from btcchat.prompt.templates import IGNORE_INDEX

NOTHING = {
    "input_ids": torch.tensor([0]),
    "labels": torch.tensor([IGNORE_INDEX]),
    "pixel_values": None,
    "modality": "text",
}


def collate(samples: list[dict], pad_token_id: int) -> dict:
    """Pad texts on the right to the longest; put all frames of the batch behind one another.

    A sample is ``{"input_ids" (N,), "labels" (N,), "pixel_values" (T, 3, H, W) or None, "modality"}``. Returns
    ``input_ids``, ``labels``, ``attention_mask`` (B, N), ``pixel_values`` (ΣT, 3, H, W) or None where there is no
    image at all, ``modalities`` and ``frame_counts`` (one a sample).

    Samples made with a feature cache have ``cached``: features (S, L, C) of the frames that are in it, and a key for
    each frame, None where it is; pixel_values are of the others. Their batch has ``cached`` too: features
    (H, S, L, C) or None, and the keys.
    """
    pixels = [sample["pixel_values"] for sample in samples]
    frames = [p for p in pixels if p is not None and len(p)]
    lengths = torch.tensor([len(sample["input_ids"]) for sample in samples])
    batch = {
        "input_ids": _pad([sample["input_ids"] for sample in samples], pad_token_id),  # (B, N)
        "labels": _pad([sample["labels"] for sample in samples], IGNORE_INDEX),  # (B, N)
        "attention_mask": torch.arange(int(lengths.max()))[None] < lengths[:, None],  # (B, N), not ids != pad:
        # the pad id may be the unknown token's, which is a real token inside a text
        "pixel_values": torch.cat(frames) if frames else None,
        "modalities": [sample["modality"] for sample in samples],
        "frame_counts": [0 if p is None else len(p) for p in pixels],
    }
    if "cached" in samples[0]:
        features, keys = zip(*(sample["cached"] for sample in samples), strict=True)
        batch["frame_counts"] = [len(one) for one in keys]
        batch["cached"] = (torch.stack(sum(features, [])) if any(features) else None, sum(keys, []))
    return batch


def collate_good(samples: list[dict | BadSample], collate: Callable[[list[dict]], dict]) -> dict:
    """The batch of the samples that are good, with ``faults``, a line for each that is not, and ``cut``, for each that
    is not whole.

    Where none is good it is one token without a label, so that this process keeps step with the others.
    """
    good = [sample for sample in samples if not isinstance(sample, BadSample)]
    faults = [sample.fault for sample in samples if isinstance(sample, BadSample)]
    cut = [sample["cut"] for sample in good if sample.get("cut")]
    return collate(good or [NOTHING]) | {"faults": faults, "cut": cut}


def _pad(rows: list[torch.Tensor], value: int) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
