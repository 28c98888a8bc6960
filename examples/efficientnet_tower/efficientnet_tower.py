"""A vision tower as a btcchat plugin: EfficientNet-Lite2, a CNN whose map of stride 32 becomes the tokens.

Written from Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (ICML 2019), and the
notes on EfficientNet-Lite in github.com/tensorflow/tpu: no squeeze-and-excitation, ReLU6, stem and head not scaled.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from btcchat import BTCChatError
from btcchat.multimodal_encoder import VISION_TOWERS

STEM, STRIDE = 32, 32
# Of each stage: blocks, kernel, stride of its first block, expansion, channels. B0's at 1.2 times its depth and 1.1
# times its width, rounded to multiples of 8; a first and a last stage of one block.
STAGES = (
    (1, 3, 1, 1, 16), (3, 3, 2, 6, 24), (3, 5, 2, 6, 48), (4, 3, 2, 6, 88), (4, 5, 1, 6, 120), (5, 5, 2, 6, 208),
    (1, 3, 1, 6, 352),
)  # fmt: skip


class EfficientNetTower(nn.Module):
    """``(N, 3, R, R)`` -> one ``(N, L, C)``, L = (R / 32)^2 tokens: 144 at 384 pixels.

    Config: ``image_size`` R, a multiple of 32; ``stages``, the stages (1 to 7) whose maps are joined, by default [7].
    A finer map is folded onto the grid of stride 32: its 2 x 2, 4 x 4, ... neighbours become channels. Each stage's
    channels are normalised token by token, as the stages differ in scale. C is 352 of stage 7, and 4 x 120 more with
    [5, 7].
    """

    num_depths = 1

    def __init__(self, config: dict[str, Any], *, select_layer: int | list[int], select_feature: str):
        super().__init__()
        self.config = {"stages": [7], **config}
        if select_layer not in (-1, [-1]):
            raise BTCChatError(
                f"mm_vision_select_layer is {select_layer}; an EfficientNet tower gives one depth, -1: choose what "
                "is in it by 'stages' in its config"
            )
        stages = self.config["stages"]
        if not stages or not all(type(stage) is int and 1 <= stage <= len(STAGES) for stage in stages):
            raise BTCChatError(f"stages is {stages}; expected some of 1 to {len(STAGES)}, such as [7]")
        self._check_size(self.resolution)
        self.checkpointing = False
        self.stem = Convolution(3, STEM, 3, stride=2)
        channels, stride, ends = STEM, 2, {}
        blocks: list[Block] = []
        for number, (count, kernel, first, expansion, width) in enumerate(STAGES, start=1):
            for index in range(count):
                blocks.append(Block(channels, width, kernel, first if index == 0 else 1, expansion))
                channels = width
            stride *= first
            ends[number] = (len(blocks) - 1, STRIDE // stride, width)
        self.ends = [ends[stage] for stage in stages]  # of each: last block, how far it is folded, channels
        self.blocks = nn.ModuleList(blocks[: max(last for last, _, _ in self.ends) + 1])

    def _check_size(self, resolution: int) -> None:
        if resolution < STRIDE or resolution % STRIDE:
            raise BTCChatError(f"image_size is {resolution}; an EfficientNet tower needs a multiple of {STRIDE} pixels")

    @property
    def hidden_size(self) -> int:
        return sum(width * fold**2 for _, fold, width in self.ends)

    @property
    def resolution(self) -> int:
        return int(self.config["image_size"])

    @property
    def grid(self) -> int:
        return self.resolution // STRIDE

    @property
    def num_tokens(self) -> int:
        return self.grid**2

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        # Channels last, in which 1x1 and depthwise convolutions are fastest.
        x = pixel_values.to(self.stem.conv.weight.dtype, memory_format=torch.channels_last)
        x = self.stem(x)  # (N, 32, R / 2, R / 2)
        maps = {}
        for number, block in enumerate(self.blocks):
            recompute = self.checkpointing and self.training and torch.is_grad_enabled()
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
            maps[number] = x
        parts = []
        for last, fold, _ in self.ends:
            folded = F.pixel_unshuffle(maps[last], fold)  # (N, channels fold^2, g, g)
            tokens = folded.flatten(2).transpose(1, 2)  # (N, L, channels fold^2)
            parts.append(F.layer_norm(tokens, tokens.shape[-1:]))
        return [torch.cat(parts, dim=-1)]

    def default_preprocessor_config(self) -> dict[str, Any]:
        """As the weights were trained: grey levels minus 127, divided by 128."""
        return {
            "size": {"height": self.resolution, "width": self.resolution},
            "image_mean": [127 / 255] * 3,
            "image_std": [128 / 255] * 3,
            "resample": 3,
            "rescale_factor": 1 / 255,
        }

    def resize(self, resolution: int) -> None:
        """Set the input size in pixels: a CNN has no position embeddings to adapt."""
        self._check_size(resolution)
        self.config["image_size"] = resolution

    def gradient_checkpointing_enable(self) -> None:
        self.checkpointing = True


class Convolution(nn.Module):
    """A convolution padded as TensorFlow's "SAME" is for even sizes, and BatchNorm; ReLU6 if ``active``."""

    def __init__(self, width: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1, active: bool = True):
        super().__init__()
        rest = kernel - stride  # with stride 2 one more at the right and at the bottom
        self.padding = (rest // 2, rest - rest // 2) * 2
        self.conv = nn.Conv2d(width, out, kernel, stride=stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out, eps=1e-3, momentum=0.01)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(F.pad(x, self.padding)))
        return F.relu6(x) if self.active else x


class Block(nn.Module):
    """An inverted residual, ``(N, width, h, w)`` -> ``(N, out, h / stride, w / stride)`` (MobileNetV2)."""

    def __init__(self, width: int, out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        hidden = width * expansion
        self.expand = Convolution(width, hidden, 1) if expansion > 1 else nn.Identity()
        self.depthwise = Convolution(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.project = Convolution(hidden, out, 1, active=False)
        self.residual = stride == 1 and width == out

    def forward(self, x: Tensor) -> Tensor:
        changed = self.project(self.depthwise(self.expand(x)))
        return x + changed if self.residual else changed


VISION_TOWERS["efficientnet_lite2"] = EfficientNetTower  # the name for vision_tower_type
