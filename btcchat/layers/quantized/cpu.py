"""Linear layers with int8 and int4 weights for the CPU; benchmarks/quantize.py compares their operators with others."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from btcchat.layers.quantized import put

GROUP = 32  # inputs that share a scale, int4
ROWS = 16  # int4: the operator processes this many outputs at a time


class QuantizedLinear(nn.Module):
    """``nn.Linear`` for inference: ``weight`` of integers, ``weight_scale``, ``bias``.

    The operators need the weight in a special order, which depends on the CPU. It is packed in the first forward pass
    and replaces the plain weight; `state_dict` returns the plain one.
    """

    weight: Tensor | None
    weight_scale: Tensor
    bias: Tensor | None
    bits: ClassVar[int]

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None, in_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, len(weight)
        self.register_buffer("weight", weight)
        self.register_buffer("weight_scale", scale)
        self.register_buffer("bias", None if bias is None else bias.detach())
        self.packed: Tensor | None = None

    @classmethod
    def of(cls, linear: nn.Linear) -> "QuantizedLinear":
        """The same layer with rounded weights."""
        weight, scale = cls.rounded(linear.weight.detach().float())
        return cls(weight, scale, linear.bias, linear.in_features)

    @staticmethod
    def fits(linear: nn.Linear) -> bool:
        """Whether the operator accepts a layer of these sizes."""
        return True

    @staticmethod
    def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (N, K) -> the integers as they are stored, and their scales."""
        raise NotImplementedError

    def pack(self, weight: Tensor) -> Tensor:
        """``weight`` in the operator's order."""
        raise NotImplementedError

    def unpack(self, packed: Tensor) -> Tensor:
        """The inverse of :meth:`pack`."""
        raise NotImplementedError

    def product(self, x: Tensor, packed: Tensor) -> Tensor:
        """(R, K) -> (R, N), without the bias."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        if self.packed is None:
            assert self.weight is not None
            self.packed, self.weight = self.pack(self.weight), None
        y = self.product(x.reshape(-1, self.in_features), self.packed).to(x.dtype)
        if self.bias is not None:
            y += self.bias
        return y.view(*x.shape[:-1], self.out_features)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.packed is not None:
            destination[prefix + "weight"] = self.unpack(self.packed)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "QuantizedLinear":
        scale = self.weight_scale
        super()._apply(fn, recurse)
        if self.weight_scale.device == scale.device:
            self.weight_scale = scale  # keep its dtype when the model is cast
        return self

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bits={self.bits}"


class Int8Linear(QuantizedLinear):
    """One scale per output; the input is rounded to 8 bits too, with one scale per row (a token).

    The integers are added up exactly, and a row's scale does not depend on other rows, so each row gets the same result
    in a batch as alone.
    """

    bits = 8
    MIDDLE = 128  # the uint8 that stands for 0: oneDNN is fast with unsigned inputs only

    @staticmethod
    def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
        scale = weight.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / 127
        return (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale  # (N, K), (N,)

    def pack(self, weight: Tensor) -> Tensor:
        packed: Tensor = torch.ops.onednn.qlinear_prepack(weight, None)
        return packed

    def unpack(self, packed: Tensor) -> Tensor:
        identity = torch.eye(self.in_features, dtype=torch.uint8)
        return self._multiply(identity, 0, packed, torch.ones_like(self.weight_scale)).t().to(torch.int8).contiguous()

    def product(self, x: Tensor, packed: Tensor) -> Tensor:
        largest = torch.linalg.vector_norm(x, float("inf"), dim=1, keepdim=True, dtype=torch.float32)
        scale = largest.clamp_(min=torch.finfo(torch.float32).tiny * 127).div_(127)  # (R, 1)
        # Adding a half and truncating rounds, in one pass over x.
        q = torch.addcmul(torch.tensor(self.MIDDLE + 0.5), x.float(), scale.reciprocal()).to(torch.uint8)
        return self._multiply(q, self.MIDDLE, packed, self.weight_scale).mul_(scale)

    def _multiply(self, q: Tensor, zero: int, packed: Tensor, scale: Tensor) -> Tensor:
        """uint8 (R, K), in which ``zero`` stands for 0 -> float32 (R, N)."""
        zeros = torch.zeros(self.out_features, dtype=torch.int64)
        inputs, output = (q, 1.0, zero), (1.0, 0, torch.float32)
        y: Tensor = torch.ops.onednn.qlinear_pointwise(*inputs, packed, scale, zeros, None, *output, "none", [], "")
        return y


class Int4Linear(QuantizedLinear):
    """Scale and middle of each GROUP of weights; two weights per byte. Multiplied in bfloat16.

    A weight is (q - 8) * scale + middle, q in 0..15; weight_scale is (K / GROUP, N, 2).
    """

    bits = 4

    @staticmethod
    def fits(linear: nn.Linear) -> bool:
        return linear.in_features % GROUP == 0 and linear.out_features % ROWS == 0

    @staticmethod
    def levels(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float32 (N, K) -> q, float (N, K / GROUP, GROUP); scale and middle (N, K / GROUP, 1)."""
        groups = weight.unflatten(1, (-1, GROUP))
        low, high = groups.aminmax(dim=2, keepdim=True)
        scale = ((high - low) / 15).clamp(min=1e-8).bfloat16().float()
        middle = (low + 8 * scale).bfloat16().float()
        return ((groups - middle) / scale + 8).round().clamp(0, 15), scale, middle

    @staticmethod
    def error(weight: Tensor) -> float:
        """How far the rounded weights are from float32 (N, K), relative to its norm."""
        q, scale, middle = Int4Linear.levels(weight)
        return float((((q - 8) * scale + middle).flatten(1) - weight).norm() / weight.norm())

    @staticmethod
    def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
        levels, scale, middle = Int4Linear.levels(weight)
        q = levels.to(torch.uint8).flatten(1)  # (N, K)
        pairs = torch.cat([scale, middle], 2).transpose(0, 1).contiguous().bfloat16()
        return q[:, ::2] << 4 | q[:, 1::2], pairs

    def pack(self, weight: Tensor) -> Tensor:
        q = torch.stack([weight >> 4, weight & 15], 2).flatten(1).to(torch.int32)
        packed: Tensor = torch.ops.aten._convert_weight_to_int4pack_for_cpu(q, 2)
        return packed

    def unpack(self, packed: Tensor) -> Tensor:
        plain = torch.zeros_like(self.weight_scale)
        plain[..., 0] = 1
        identity = torch.eye(self.in_features, dtype=torch.bfloat16)
        q = (self._multiply(identity, packed, plain).t() + 8).to(torch.uint8)
        return (q[:, ::2] << 4 | q[:, 1::2]).contiguous()

    def product(self, x: Tensor, packed: Tensor) -> Tensor:
        return self._multiply(x.bfloat16(), packed, self.weight_scale)

    def _multiply(self, x: Tensor, packed: Tensor, scale: Tensor) -> Tensor:
        y: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x.contiguous(), packed, GROUP, scale)
        return y


KINDS: dict[str, type[QuantizedLinear]] = {"int8": Int8Linear, "int4": Int4Linear}
EMPTY = {"int8": (1, torch.float32), "int4": (2, torch.bfloat16)}  # weights a byte, dtype of the scales


def empty(kind: str, linear: nn.Linear) -> QuantizedLinear:
    """A layer of the shapes that ``linear`` has when quantised, on the meta device, to load weights into."""
    n, k = linear.out_features, linear.in_features
    a_byte, dtype = EMPTY[kind]
    shape = (n,) if kind == "int8" else (k // GROUP, n, 2)
    integers = torch.int8 if kind == "int8" else torch.uint8
    weight = torch.empty(n, k // a_byte, dtype=integers, device="meta")
    bias = None if linear.bias is None else torch.empty(n, device="meta")
    return KINDS[kind](weight, torch.empty(shape, dtype=dtype, device="meta"), bias, k)


def replace(kind: str, linear: dict[str, nn.Linear], root: nn.Module, *, loaded: bool) -> int:
    """Replace those layers of ``root`` (name -> layer) whose sizes the kind accepts; returns how many.

    loaded: they have weights, which are rounded; otherwise the weights are loaded later.
    """
    fitting = {name: layer for name, layer in linear.items() if KINDS[kind].fits(layer)}
    for name, layer in fitting.items():
        put(root, name, KINDS[kind].of(layer) if loaded else empty(kind, layer))
    return len(fitting)


def works(kind: str) -> bool:
    """Whether this build of torch, on this CPU, has the operator."""
    layer = nn.Linear(GROUP, ROWS)
    try:
        with torch.inference_mode():
            KINDS[kind].of(layer)(torch.ones(1, GROUP))
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return True
