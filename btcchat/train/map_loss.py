"""A loss on change maps: where a pair has a mask, the change encoder's distance learns to be that mask."""

import torch
from torch import Tensor


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
