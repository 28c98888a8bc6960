"""Two operators whose bfloat16 kernels for the CPU are slow in torch 2.x, computed differently there.

Otherwise they are torch's own. benchmarks/bf16_cpu.py compares both.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 2**16  # values that stay in the cache from one operator to the next
SCALE, CUBIC = 2 * (2 / torch.pi) ** 0.5, 0.044715
TILE = 32  # keys that an AMX product processes at a time
FEW = 256  # keys; beyond that, keeping every weight for the backward pass takes too much memory


def _slow(x: Tensor) -> bool:
    return x.dtype == torch.bfloat16 and x.device.type == "cpu"


def gelu(x: Tensor, approximate: str) -> Tensor:
    """``F.gelu``; the tanh form without gradients, in place.

    (1 + tanh(u)) / 2 is sigmoid(2u), which has a fast kernel. Computed in float32 and rounded once.
    """
    if approximate != "tanh" or torch.is_grad_enabled() or not _slow(x) or not x.is_contiguous():
        return F.gelu(x, approximate=approximate)
    for part in x.view(-1).split(CHUNK):
        value = part.float()
        gate = (value * value).mul_(SCALE * CUBIC).add_(SCALE).mul_(value).sigmoid_()
        part.copy_(gate.mul_(value))
    return x


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``F.scaled_dot_product_attention`` of ``(N, heads, L, C)``.

    With gradients and few keys, explicit matrix products are faster. Without gradients, a number of keys that is not a
    multiple of TILE is slower than the next multiple, so keys are padded and masked.
    """
    keys, extra = k.shape[2], -k.shape[2] % TILE
    if not _slow(q):
        return F.scaled_dot_product_attention(q, k, v)
    if torch.is_grad_enabled() and keys <= FEW:
        with torch.autocast("cpu", enabled=False):  # it would compute the softmax in float32
            weights: Tensor = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
            return weights @ v
    if torch.is_grad_enabled() or not extra or keys < 8 * TILE:
        return F.scaled_dot_product_attention(q, k, v)
    mask = q.new_zeros(keys + extra)
    mask[-extra:] = -torch.inf
    k, v = (F.pad(x, (0, 0, 0, extra)) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[None, None, None])
