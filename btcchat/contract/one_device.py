"""Whether a pass stays on one device, found out without a second device."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What a GPU also does with CPU tensors: copying, and indexing by them.
MIXING = {torch.ops.aten.copy_, torch.ops.aten._to_copy, torch.ops.aten.index, torch.ops.aten.index_put_}


class MixedDevices(Exception):
    """An operation was given tensors on two devices, which fails on a GPU."""


class OneDevice(TorchDispatchMode):
    """Raises MixedDevices for an operation on tensors of two devices.

    With the weights and the input on torch's device ``meta``, which has shapes but no numbers, a tensor that a forward
    makes on the CPU stands out. Tensors without dimensions may be on any device, as they may with a GPU.
    """

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        leaves = tree_leaves((args, kwargs or {}))
        devices = {one.device.type for one in leaves if isinstance(one, Tensor) and one.dim()}
        if len(devices) > 1 and func.overloadpacket not in MIXING:
            raise MixedDevices(f"in {func.overloadpacket.__name__}")
        return func(*args, **(kwargs or {}))
