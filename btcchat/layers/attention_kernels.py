"""Which kernels torch's attention may use on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_cudnn(device: torch.device) -> Iterator[None]:
    """Keep torch's attention on a GPU from using cuDNN, which makes a new plan for every new shape.

    torch prefers cuDNN on an H100. There a new shape cost 35 ms, as much as several steps of a 3B model, and every
    token of an answer is a new shape (docs/gpu.md).
    """
    backends = torch.backends.cuda
    if device.type != "cuda" or not hasattr(backends, "enable_cudnn_sdp"):  # torch has had it since 2.3
        yield
        return
    before = backends.cudnn_sdp_enabled()
    backends.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        backends.enable_cudnn_sdp(before)
