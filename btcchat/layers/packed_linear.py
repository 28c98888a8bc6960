"""Linear layers in bfloat16 on a CPU, with their weights in the layout that oneDNN's matrix products read.

torch's own linear layer converts the weights to that layout in every call. Here this is done once, and the step after
the product (GELU, or adding a residual) runs before its result leaves the cache. benchmarks/bf16_cpu.py compares both.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from btcchat.compat.torch_floor import has_fast_bfloat16

OPERATORS = ("_reorder_linear_weight", "_linear_pointwise")  # of torch's compiler, private: they may be missing


def packs(x: Tensor, layers: Sequence[nn.Module]) -> bool:
    """Whether `PackedLinear` can compute these layers' outputs for ``x`` (no gradients), and is faster."""
    if x.dtype != torch.bfloat16 or x.device.type != "cpu" or torch.is_grad_enabled() or not _has_operators():
        return False
    return all(type(layer) is nn.Linear and _is_plain(layer) for layer in layers)


def _has_operators() -> bool:
    usable = has_fast_bfloat16() and bool(torch.backends.mkldnn.enabled)
    return usable and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)


def _is_plain(layer: nn.Linear) -> bool:
    """Whether its result depends only on its weights, and a change of them can be detected."""
    weight = layer.weight
    hooked = layer._forward_hooks or layer._forward_pre_hooks
    split = hasattr(weight, "ds_id")  # ZeRO-3: complete only while a layer runs
    return weight.dtype == torch.bfloat16 and layer.bias is not None and not (hooked or split or weight.is_inference())


def flops(x_shape: Sequence[int], *_: object, out_shape: Sequence[int], **__: object) -> int:
    """The operations of one product, from its shapes, for `FlopCounterMode`, which does not know the operator."""
    return 2 * x_shape[-1] * math.prod(out_shape)


def flop_formulas() -> dict[Any, Any]:
    """``custom_mapping`` of a `FlopCounterMode`."""
    return {torch.ops.mkldnn._linear_pointwise: flops} if _has_operators() else {}


class PackedLinear:
    """One or more layers ``(..., C)`` -> ``(..., D)`` that read the same input, as one product.

    The weights are packed in the first call, and again after the layers' weights have changed. Copies and unpickled
    objects start without packed weights.
    """

    _made_of: Sequence[tuple[Tensor, int, int]] = ()  # parameter, address and version of its values
    _weight: Any = None
    _bias: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(
        self, x: Tensor, *layers: nn.Linear, gelu: str | None = None, residual: Tensor | None = None
    ) -> Tensor:
        """The layers' results side by side in the last dimension, followed by GELU (of a form) or + residual."""
        self._pack(layers)
        operator: Any = torch.ops.mkldnn._linear_pointwise
        if residual is not None:
            out: Tensor = operator.binary(x, residual, self._weight, self._bias, "add")
        elif gelu is not None:
            out = operator(x, self._weight, self._bias, "gelu", [], gelu)
        else:
            out = operator(x, self._weight, self._bias, "none", [], "")
        return out

    def drop(self) -> None:
        """Forget the packed weights."""
        self._made_of, self._weight, self._bias = (), None, None

    def _pack(self, layers: Sequence[nn.Linear]) -> None:
        parameters = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
        if len(parameters) == len(self._made_of) and all(
            now is before and now.data_ptr() == address and now._version == version
            for now, (before, address, version) in zip(parameters, self._made_of, strict=True)
        ):
            return
        weight = torch.cat([layer.weight for layer in layers])
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight)
        self._bias = torch.cat([layer.bias for layer in layers])
        self._made_of = [(parameter, parameter.data_ptr(), parameter._version) for parameter in parameters]
