"""Every kind of vision tower recomputes its blocks under gradient checkpointing, and trains to the same gradients.

timm and open_clip are used where they can be imported. Elsewhere, stand-ins copy the part of their interface that the
towers use: an attribute that the real module lacks is an AttributeError here too.
"""

import importlib
import json
import logging
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from btcchat.multimodal_encoder import VISION_TOWERS, build_vision_tower
from tests.multimodal_encoder.test_library_towers import TINY_CLIP, TINY_SIGLIP

TINY = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}
# Kind of tower -> name of a model -> (its config, its blocks). open_clip has ViTs of its own, and timm's inside.
MODELS = {
    "siglip": {"tiny": (TINY, lambda tower: tower.vision_model["encoder"]["layers"])},
    "timm": {"test_vit": ({"model_name": "test_vit"}, lambda tower: tower.vit.blocks)},
    "open_clip": {
        "tiny-clip": ({"model_name": "tiny-clip"}, lambda tower: tower.visual.transformer.resblocks),
        "tiny-siglip": ({"model_name": "tiny-siglip"}, lambda tower: tower.visual.trunk.blocks),
    },
}
EACH = [(kind, name) for kind, models in MODELS.items() for name in models]


def test_every_kind_of_vision_tower_is_tested_here():
    assert MODELS.keys() == VISION_TOWERS.keys(), "add a model of the new kind to MODELS"


@pytest.fixture
def libraries(tmp_path, monkeypatch):
    """timm and open_clip, or stand-ins, with the models of MODELS."""
    torch.manual_seed(0)
    try:
        importlib.import_module("timm")
        open_clip = importlib.import_module("open_clip")
    except (ImportError, OSError, RuntimeError):
        monkeypatch.setitem(sys.modules, "timm", TIMM)
        monkeypatch.setitem(sys.modules, "open_clip", OPEN_CLIP)
        return
    for name, model in {"tiny-clip": TINY_CLIP, "tiny-siglip": TINY_SIGLIP}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(model))
        open_clip.add_model_config(tmp_path / f"{name}.json")


def step(tower, blocks, pixels) -> tuple[int, dict[str, torch.Tensor]]:
    """How many blocks were computed in a forward and a backward pass, and the gradients."""
    computed = []
    hooks = [block.register_forward_pre_hook(lambda *_: computed.append(1)) for block in blocks]
    tower.zero_grad()
    sum(depth.square().sum() for depth in tower(pixels)).backward()
    for hook in hooks:
        hook.remove()
    return len(computed), {name: p.grad.clone() for name, p in tower.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_checkpointing_computes_every_block_twice_and_leaves_the_gradients(libraries, kind, name):
    config, blocks_of = MODELS[kind][name]
    config = {"vision_tower_type": kind} | config
    tower = build_vision_tower(config, select_layer=[1, 2], select_feature="cls_patch").train()
    pixels = torch.randn(2, 3, tower.resolution, tower.resolution)
    blocks = blocks_of(tower)

    once, plain = step(tower, blocks, pixels)
    tower.gradient_checkpointing_enable()
    twice, again = step(tower, blocks, pixels)

    assert (once, twice) == (2, 4)
    assert again.keys() == plain.keys() and len(plain) >= 2 * len(list(blocks[0].parameters()))
    for parameter, gradient in plain.items():
        torch.testing.assert_close(again[parameter], gradient, msg=parameter)


def test_a_timm_vit_inside_open_clip_that_cannot_checkpoint_is_an_error(libraries, monkeypatch):
    def unsupported(self, enable: bool = True) -> None:
        assert not enable, "gradient checkpointing not supported"  # as timm says it

    config = {"vision_tower_type": "open_clip", "model_name": "tiny-siglip"}
    tower = build_vision_tower(config, select_layer=-1, select_feature="patch")
    monkeypatch.setattr(type(tower.visual.trunk), "set_grad_checkpointing", unsupported)
    with pytest.raises(AssertionError, match="gradient checkpointing not supported"):
        tower.gradient_checkpointing_enable()


# -- stand-ins: a block is a linear layer; a class has only those attributes of the real one that a tower uses ------


def run_blocks(blocks: nn.ModuleList, x: torch.Tensor, indices: list[int], recompute: bool) -> list[torch.Tensor]:
    """x: (N, L, C). Blocks after the last index are not computed, as with stop_early in the real libraries."""
    outputs = []
    for block in blocks[: max(indices) + 1]:
        x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        outputs.append(x)
    return [outputs[index] for index in indices]


class PatchEmbed(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Conv2d(3, 8, 16, stride=16)
        self.img_size, self.grid_size = (32, 32), (2, 2)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)  # (N, L, C)


class TimmViT(nn.Module):
    """timm.models.vision_transformer.VisionTransformer"""

    def __init__(self):
        super().__init__()
        self.num_features, self.grad_checkpointing = 8, False
        self.patch_embed = PatchEmbed()
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable

    def forward_intermediates(self, x, *, indices, stop_early, intermediates_only, output_fmt):
        assert stop_early and intermediates_only and output_fmt == "NLC"
        return run_blocks(self.blocks, self.patch_embed(x), indices, self.grad_checkpointing)


class ClipTransformer(nn.Module):
    """open_clip.transformer.Transformer"""

    def __init__(self):
        super().__init__()
        self.grad_checkpointing = False
        self.resblocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))


class ClipViT(nn.Module):
    """open_clip.transformer.VisionTransformer: the switch is in its transformer."""

    def __init__(self):
        super().__init__()
        self.image_size, self.grid_size = (32, 32), (2, 2)
        self.conv1 = nn.Conv2d(3, 8, 16, stride=16)
        self.transformer = ClipTransformer()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.transformer.grad_checkpointing = enable

    def forward_intermediates(self, x, *, indices, stop_early, intermediates_only, output_fmt):
        assert stop_early and intermediates_only and output_fmt == "NLC"
        x, inner = self.conv1(x).flatten(2).transpose(1, 2), self.transformer  # (N, L, C)
        return {"image_intermediates": run_blocks(inner.resblocks, x, indices, inner.grad_checkpointing)}


class TimmModel(nn.Module):
    """open_clip.timm_model.TimmModel: has a timm ViT inside, and only logs that it cannot checkpoint."""

    def __init__(self):
        super().__init__()
        self.image_size = (32, 32)
        self.trunk = TimmViT()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        try:
            self.trunk.set_grad_checkpointing(enable)
        except Exception:  # noqa: BLE001
            logging.getLogger(__name__).warning("grad checkpointing not supported, continuing without")

    def forward_intermediates(self, x, **options):
        return {"image_intermediates": self.trunk.forward_intermediates(x, **options)}


CLIPS = {"tiny-clip": ClipViT, "tiny-siglip": TimmModel}
TIMM = SimpleNamespace(
    list_models=lambda: ["test_vit"],
    create_model=lambda name, pretrained, num_classes: TimmViT(),
    data=SimpleNamespace(resolve_model_data_config=lambda vit: {}),
)
OPEN_CLIP = SimpleNamespace(
    list_models=lambda: list(CLIPS),
    create_model=lambda name, **options: SimpleNamespace(visual=CLIPS[name]()),
    get_model_preprocess_cfg=lambda model: {},
    transformer=SimpleNamespace(VisionTransformer=ClipViT),
)
