"""Images given as numpy arrays or torch tensors."""

import sys
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from btcchat.errors import BTCChatError

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import TypeIs

EXPECTED = "a numpy array (H, W) or (H, W, 3) or a torch tensor (3, H, W), of uint8 or of floating point in 0..1"


def is_array(source: object) -> "TypeIs[np.ndarray | Tensor]":
    return isinstance(source, np.ndarray) or _is_tensor(source)


def image_of_array(source: "np.ndarray | Tensor") -> Image.Image:
    """Make an image of an array (H, W) or (H, W, 3), or a tensor (3, H, W). Raises BTCChatError for others."""
    if _is_tensor(source):
        tensor = source.detach().cpu()
        if tensor.ndim != 3 or tensor.shape[0] != 3:
            raise BTCChatError(f"a torch tensor of shape {tuple(source.shape)} is not an image; expected {EXPECTED}")
        if tensor.is_floating_point():
            tensor = tensor.float()  # numpy has no bfloat16
        array: np.ndarray = tensor.permute(1, 2, 0).numpy()
    else:
        array = source
    if not array.size or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise BTCChatError(f"an array of shape {array.shape} is not an image; expected {EXPECTED}")
    if array.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(array))
    if not np.issubdtype(array.dtype, np.floating):
        raise BTCChatError(f"an image of {array.dtype} has no known range of values; expected {EXPECTED}")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # written so that NaN is out of range too
        raise BTCChatError(f"an image of {array.dtype} has values from {low:g} to {high:g}; expected {EXPECTED}")
    return Image.fromarray((array * 255).round().astype(np.uint8))


def _is_tensor(source: object) -> "TypeIs[Tensor]":
    """Check without importing torch, which any caller with a tensor has imported."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)
