"""A loss on change maps (``--mask_loss``): the change encoder's distance is trained to match the pair's mask."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from btcchat.change_encoder.protocol import MeasuresDistance
from btcchat.data.mixture import Mixture
from btcchat.data.mixture.stream import StreamMixture
from btcchat.data.records import CODES, Record
from btcchat.errors import BTCChatError
from btcchat.eval.maps.masks import changed_pixels, mask_source
from btcchat.model import BTCChatModel

FLAG = "--mask_loss"


def check_masks(model: BTCChatModel, dataset: Mixture | StreamMixture) -> None:
    """Raise BTCChatError if there is no change map for ``--mask_loss`` to train, or if a pair has no mask.

    Streamed rows are checked when they are read.
    """
    encoder, config = model.change_encoder, model.config.change_encoder
    name = None if config is None else config.get("change_encoder_type")
    if not isinstance(encoder, MeasuresDistance):
        raise BTCChatError(f"{FLAG} trains a change map, but the change encoder '{name}' has none; leave {FLAG} out")
    if not any(parameter.requires_grad for parameter in encoder.parameters()):
        raise BTCChatError(f"{FLAG} trains the change encoder '{name}', which is frozen; set --tune_cc_projector True")
    if isinstance(dataset, StreamMixture):
        return
    pair = CODES.index("pair")
    for selection in dataset.sets:
        for row in dict.fromkeys(selection.rows):
            if selection.records.modality_codes[row] == pair:
                mask_source(selection.records[row], FLAG)


def changed_share(record: Record, grid: int, *, padded: bool) -> Tensor:
    """The share of each patch that changed, (g, g), from the mask of a pair's row, flipped and rotated like the pair.

    padded: the grid covers the square that the image was padded to. Raises BTCChatError naming the row.
    """
    mask = Image.fromarray(changed_pixels(mask_source(record, FLAG)).astype(np.uint8))
    shown = mask if record.view is None else mask.transpose(record.view)
    changed = torch.from_numpy(np.array(shown)).float()  # (H, W)
    if padded:
        height, width = changed.shape
        across, down = max(height, width) - width, max(height, width) - height
        changed = F.pad(changed, (across // 2, across - across // 2, down // 2, down - down // 2))
    return F.interpolate(changed[None, None], size=(grid, grid), mode="area")[0, 0]


def change_map_loss(distance: Tensor, share: Tensor) -> Tensor:
    """How far distances (P, g, g) in 0..1 are from the changed share of each patch, the same shape: a scalar, float32.

    Cross entropy plus one minus the Dice coefficient of the batch (Milletari et al. 2016, arXiv:1606.04797): few
    patches change, and cross entropy alone would be content with "nothing changed".
    """
    guess, share = distance.float().clamp(1e-4, 1 - 1e-4), share.float()
    entropy = -(share * guess.log() + (1 - share) * (1 - guess).log()).mean()
    overlap = 2 * (guess * share).sum() / ((guess.square() + share.square()).sum() + 1e-6)
    # A batch without a change has nothing to overlap with.
    return torch.where(share.sum() > 0, entropy + 1 - overlap, entropy)
