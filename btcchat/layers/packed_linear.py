"""Linear layers in bfloat16 on a CPU, with their weights in the layout that oneDNN's products read.

torch's own linear layer brings the weights into that layout in every call. Here it is done once, and what follows the
product (GELU, or the sum with a residual) happens before its result leaves the cache. benchmarks/bf16_cpu.py compares.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from btcchat.compat.torch_floor import has_fast_bfloat16

OPERATORS = ("_reorder_linear_weight", "_linear_pointwise")  # of torch's compiler, not public: they may be missing


def packs(x: Tensor, layers: Sequence[nn.Module]) -> bool:
    """Whether `PackedLinear` can compute what these layers make of ``x`` (no gradients), and gains by it."""
    if x.dtype != torch.bfloat16 or x.device.type != "cpu" or torch.is_grad_enabled() or not _has_operators():
        return False
    return all(type(layer) is nn.Linear and _is_plain(layer) for layer in layers)


def _has_operators() -> bool:
    usable = has_fast_bfloat16() and bool(torch.backends.mkldnn.enabled)
    return usable and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)


def _is_plain(layer: nn.Linear) -> bool:
    """Whether its result follows from its weights alone, and a change of them is noticed."""
    weight = layer.weight
    hooked = layer._forward_hooks or layer._forward_pre_hooks
    split = hasattr(weight, "ds_id")  # ZeRO-3: whole only while a layer runs
    return weight.dtype == torch.bfloat16 and layer.bias is not None and not (hooked or split or weight.is_inference())


def flops(x_shape: Sequence[int], *_: object, out_shape: Sequence[int], **__: object) -> int:
    """For `FlopCounterMode`, which does not know the operator: of one product, from the shapes."""
    return 2 * x_shape[-1] * math.prod(out_shape)


def flop_formulas() -> dict[Any, Any]:
    """``custom_mapping`` of a `FlopCounterMode`."""
    return {torch.ops.mkldnn._linear_pointwise: flops} if _has_operators() else {}


class PackedLinear:
    """One or more layers ``(..., C)`` -> ``(..., D)`` that read the same input, as one product.

    The packed weights are made in the first call, and again after the layers' weights have changed. A copy of it, or
    what is read from a pickle, has none.
    """

    _made_of: Sequence[tuple[Tensor, int, int]] = ()  # with the address and version of its values
    _weight: Any = None
    _bias: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(
        self, x: Tensor, *layers: nn.Linear, gelu: str | None = None, residual: Tensor | None = None
    ) -> Tensor:
        """The layers' results side by side in the last dimension; after that GELU of a form, or + residual."""
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
