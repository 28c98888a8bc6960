"""The vision half of SigLIP (Zhai et al. 2023, arXiv:2303.15343), with Hugging Face's parameter names."""

import math
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from btcchat.checkpoint.weights import Weights
from btcchat.errors import BTCChatError, choose
from btcchat.layers.bf16_cpu import attention, gelu
from btcchat.layers.packed_linear import PackedLinear, packs
from btcchat.multimodal_encoder.select import resolve_layers, select_start

# Patterns of published keys that the tower does not use: the pooling head, and the text half of a full model.
UNUSED_KEYS = [
    r"vision_model\.head\..*",
    r"vision_model\.embeddings\.position_ids",
    r"text_model\..*",
    r"logit_(scale|bias)",
]

# A published config.json leaves out values that equal the defaults of transformers' SiglipVisionConfig.
DEFAULTS: dict[str, Any] = {
    "model_type": "siglip_vision_model",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
# Size in a config.json -> a weight of that size, and the dimension.
EMBEDDINGS = "vision_model.embeddings."
PLACES = {
    "num_channels": (EMBEDDINGS + "patch_embedding.weight", 1),
    "patch_size": (EMBEDDINGS + "patch_embedding.weight", 2),
    "hidden_size": (EMBEDDINGS + "patch_embedding.weight", 0),
    "intermediate_size": ("vision_model.encoder.layers.0.mlp.fc1.weight", 0),
}
# Bytes of the widest tensor of a block: on the CPU, the images of a batch are computed in parts of this size. glibc
# gets anything above 32 MB from the kernel each time, and the kernel clears its pages: that takes half as long as the
# matrix products.
PART = 20 * 2**20
ACTIVATIONS = {"gelu_pytorch_tanh": "tanh", "gelu": "none"}  # -> `approximate` of torch's GELU


class SiglipTower(nn.Module):
    """Pre-norm ViT without class token: ``(N, 3, H, W)`` -> one ``(N, L, C)`` per selected layer.

    Layers are numbered like hidden_states: 0 the embeddings, -1 the last block before the final norm. Blocks
    above the deepest selected one are kept, so that a checkpoint saves as it was loaded, but not computed. Raises
    BTCChatError for sizes, layers or features that do not fit, and for images of another size.
    """

    def __init__(
        self, config: dict[str, Any], *, select_layer: int | list[int] = -2, select_feature: str = "cls_patch"
    ):
        super().__init__()
        config = DEFAULTS | dict(config.get("vision_config", config))
        width, heads = config["hidden_size"], config["num_attention_heads"]
        if width % heads:
            raise BTCChatError(f"vision tower: hidden_size {width} is not a multiple of num_attention_heads {heads}")
        choose("vision tower hidden_act", config["hidden_act"], ACTIVATIONS)
        self.config = config
        self.select_layers = resolve_layers(select_layer, config["num_hidden_layers"])
        # LLaVA-OneVision leaves out the blocks above the selected one; layer numbers still count them.
        blocks: int = config.get("num_stored_layers", config["num_hidden_layers"])
        if max(self.select_layers) > blocks:
            raise BTCChatError(
                f"mm_vision_select_layer {select_layer} needs layer {max(self.select_layers)} of the vision tower, but "
                f"the checkpoint has only the first {blocks} of {config['num_hidden_layers']}; select lower ones"
            )
        self.select_start = select_start(select_feature)
        self.gradient_checkpointing = False

        patch, eps = config["patch_size"], config["layer_norm_eps"]
        # Plain containers, which give the parameters their published names.
        self.vision_model: Any = nn.ModuleDict(
            {
                "embeddings": nn.ModuleDict(
                    {
                        "patch_embedding": nn.Conv2d(config["num_channels"], width, patch, stride=patch),
                        "position_embedding": nn.Embedding(self.grid**2, width),
                    }
                ),
                "encoder": nn.ModuleDict({"layers": nn.ModuleList(Block(config) for _ in range(blocks))}),
                "post_layernorm": nn.LayerNorm(width, eps=eps),
            }
        )
        self.reset_parameters()

    @staticmethod
    def check_sizes(config: dict[str, Any], weights: Weights) -> None:
        """Raise BTCChatError if a size, given or by default, is not a whole number or does not fit the weights."""
        given = config.get("vision_config", config)
        sizes = DEFAULTS | given
        for key, default in DEFAULTS.items():
            if isinstance(default, int) and (type(sizes[key]) is not int or sizes[key] < 1):
                raise BTCChatError(f"{key} is {sizes[key]!r}, expected a whole number such as {default}")
        stored = {key: weights.shape(name)[at] for key, (name, at) in PLACES.items() if name in weights.places}
        wrong: dict[str, int | str] = {key: has for key, has in stored.items() if has != sizes[key]}
        numbers = (re.match(r"vision_model\.encoder\.layers\.(\d+)\.", name) for name in weights.places)
        layers = [int(number[1]) for number in numbers if number]
        key = "num_stored_layers" if "num_stored_layers" in sizes else "num_hidden_layers"
        if layers and max(layers) + 1 != sizes[key]:
            wrong[key] = max(layers) + 1
        patches, positions = (sizes["image_size"] // sizes["patch_size"]) ** 2, EMBEDDINGS + "position_embedding.weight"
        if positions in weights.places and (rows := weights.shape(positions)[0]) != patches:
            wrong.setdefault("image_size", f"{rows} patches, not {patches}")
        for key, has in wrong.items():
            own = sizes[key] if key in given else f"left out, which means {sizes[key]}"
            raise BTCChatError(f"{key} is {own}, but the weights in {weights.folder} have {has}")

    @property
    def hidden_size(self) -> int:
        return int(self.config["hidden_size"])

    @property
    def resolution(self) -> int:
        return int(self.config["image_size"])

    @property
    def grid(self) -> int:
        return self.resolution // int(self.config["patch_size"])

    @property
    def num_tokens(self) -> int:
        return self.grid**2 - self.select_start

    @property
    def num_depths(self) -> int:
        return len(self.select_layers)

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        if pixel_values.shape[-2:] != (self.resolution, self.resolution):
            got = "x".join(map(str, pixel_values.shape[-2:]))
            raise BTCChatError(
                f"vision tower: got images of {got} pixels, expected {self.resolution}x{self.resolution}; "
                "resize them with the tower's image processor, or call tower.resize"
            )
        embeddings = self.vision_model["embeddings"]
        dtype = embeddings["patch_embedding"].weight.dtype
        x = embeddings["patch_embedding"](pixel_values.to(dtype))  # (N, C, g, g)
        x = x.flatten(2).transpose(1, 2).contiguous()  # (N, g*g, C), row by row; every later sum keeps this order
        x = x + embeddings["position_embedding"](torch.arange(x.shape[1], device=x.device))

        together = hasattr(embeddings["patch_embedding"].weight, "ds_id")  # ZeRO-3: equal steps in all processes
        if x.device.type != "cpu" or torch.is_grad_enabled() or together:
            return self._blocks(x)
        size = max(1, PART // (x.shape[1] * self.config["intermediate_size"] * x.element_size()))
        parts = [self._blocks(part) for part in x.split(size)]
        return [torch.cat(depth) for depth in zip(*parts, strict=True)]

    def _blocks(self, x: Tensor) -> list[Tensor]:
        deepest = max(self.select_layers)
        states = {0: x}
        recompute = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        for number, block in enumerate(self.vision_model["encoder"]["layers"][:deepest], start=1):
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
            if number in self.select_layers:
                states[number] = x
        return [states[number][:, self.select_start :] for number in self.select_layers]

    def gradient_checkpointing_enable(self) -> None:
        self.gradient_checkpointing = True

    def default_preprocessor_config(self) -> dict[str, Any]:
        """SigLIP's own preprocessing, in the words of a preprocessor_config.json."""
        return {
            "image_processor_type": "SiglipImageProcessor",
            "size": {"height": self.resolution, "width": self.resolution},
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "resample": 3,
            "rescale_factor": 1 / 255,
        }

    @torch.no_grad()
    def resize(self, resolution: int) -> None:
        """Set the input size in pixels, and interpolate the position embeddings to the new grid."""
        grid = resolution // self.config["patch_size"]
        if grid < 1:
            raise BTCChatError(
                f"vision tower: resolution {resolution} is less than one patch of {self.config['patch_size']} pixels"
            )
        embedding = self.vision_model["embeddings"]["position_embedding"]
        if grid != self.grid:
            resized = nn.Embedding(grid**2, self.hidden_size, _weight=interpolate_rows(embedding.weight, grid**2))
            resized.weight.requires_grad_(embedding.weight.requires_grad)
            self.vision_model["embeddings"]["position_embedding"] = resized
        self.config["image_size"] = resolution

    def reset_parameters(self) -> None:
        """Initialise as SigLIP's code (big_vision) does: Xavier linear layers, LeCun patches, small positions."""
        embeddings = self.vision_model["embeddings"]
        patch = embeddings["patch_embedding"]
        nn.init.trunc_normal_(patch.weight, std=1 / math.sqrt(patch.weight[0].numel()))
        nn.init.zeros_(patch.bias)
        nn.init.normal_(embeddings["position_embedding"].weight, std=1 / math.sqrt(self.hidden_size))
        for module in self.vision_model["encoder"].modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)


class Block(nn.Module):
    """One pre-norm transformer block, ``(N, L, C)`` -> ``(N, L, C)``."""

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        width, hidden, eps = config["hidden_size"], config["intermediate_size"], config["layer_norm_eps"]
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.self_attn = Attention(width, config["num_attention_heads"])
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp: Any = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})
        self.approximate = ACTIVATIONS[config["hidden_act"]]
        self._fc1, self._fc2 = PackedLinear(), PackedLinear()

    def forward(self, x: Tensor) -> Tensor:
        x = self.self_attn(self.layer_norm1(x), residual=x)
        hidden, fc1, fc2 = self.layer_norm2(x), self.mlp["fc1"], self.mlp["fc2"]
        if packs(x, (fc1, fc2)):
            return self._fc2(self._fc1(hidden, fc1, gelu=self.approximate), fc2, residual=x)
        x = x + fc2(gelu(fc1(hidden), self.approximate))
        return x

    def train(self, mode: bool = True) -> "Block":
        """As usual, but drop packed weights: an optimiser may change weights without raising their version."""
        if any(parameter.requires_grad for parameter in self.parameters()):
            for packed in (self._fc1, self._fc2, *self.self_attn.packed):
                packed.drop()
        return super().train(mode)


class Attention(nn.Module):
    """Multi-head self-attention over all tokens, and the sum with the residual."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.packed = PackedLinear(), PackedLinear()  # q, k and v in one; out

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        projections = self.q_proj, self.k_proj, self.v_proj
        packed = packs(x, (*projections, self.out_proj))
        if packed:
            parts = self.packed[0](x, *projections).chunk(3, -1)
        else:
            parts = tuple(projection(x) for projection in projections)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)  # (N, heads, L, C/heads)
        x = attention(q, k, v).transpose(1, 2).flatten(2)
        return self.packed[1](x, self.out_proj, residual=residual) if packed else residual + self.out_proj(x)


def interpolate_rows(weight: Tensor, count: int) -> Tensor:
    """Resample ``(M, C)`` to ``(count, C)`` linearly along the flattened index, as the published code does.

    At integer positions the published code yields zero rows; here they are the rows themselves.
    """
    old = weight.shape[0]
    # float32, and in this order: the published positions, to the bit.
    position = torch.arange(count, dtype=torch.float32, device=weight.device) / max(count - 1, 1) * (old - 1)
    low = position.floor().long().clamp(max=old - 1)
    high = (low + 1).clamp(max=old - 1)
    fraction = (position - low)[:, None]
    rows = weight.float()
    return (fraction * rows[high] + (1 - fraction) * rows[low]).to(weight.dtype)
