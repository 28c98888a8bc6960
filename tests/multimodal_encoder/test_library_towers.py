"""Towers of timm and open_clip, with random weights. Skipped if torchvision cannot be imported: both libraries need it,
and its wheel does not work with a CPU build of torch."""

import importlib
import json
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from btcchat import BTCChat, Record, request
from btcchat.errors import BTCChatError
from btcchat.generation import GenerationOptions
from btcchat.layers.empty_weights import init_empty_weights
from btcchat.multimodal_encoder import build_vision_tower
from btcchat.multimodal_encoder.protocol import VisionTower
from tests.backbones import write_language_model

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
TINY_CLIP = {  # open_clip's kind of model file; 3 layers, 2x2 patches
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 128, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 2, "layers": 1},
}
TINY_SIGLIP = TINY_CLIP | {
    "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_model_pretrained": False, "timm_pool": "avg"}
}


@pytest.fixture
def libraries(tmp_path):
    """Both libraries, with the tiny models registered in open_clip."""
    try:
        timm, open_clip = importlib.import_module("timm"), importlib.import_module("open_clip")
    except (ImportError, OSError, RuntimeError) as fault:
        pytest.skip(f"timm and open_clip, with torchvision, cannot be imported: {fault}")
    for name, model in {"tiny-clip": TINY_CLIP, "tiny-siglip": TINY_SIGLIP}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(model))
        open_clip.add_model_config(tmp_path / f"{name}.json")
    torch.manual_seed(0)
    return timm, open_clip


def build(kind, name, select_layer=-2, **config):
    config = {"vision_tower_type": kind, "model_name": name} | config
    return build_vision_tower(config, select_layer=select_layer, select_feature="patch").eval()


MODELS = pytest.mark.parametrize(
    ("kind", "name", "resolution"),
    [("timm", "test_vit", 160), ("open_clip", "tiny-clip", 32), ("open_clip", "tiny-siglip", 160)],
)


@MODELS
@torch.no_grad()
def test_a_tower_gives_the_patch_tokens_of_each_selected_layer(libraries, kind, name, resolution):
    pixels = torch.randn(2, 3, resolution, resolution)
    tower = build(kind, name, [-1, 1, -1])
    assert isinstance(tower, VisionTower) and tower.resolution == resolution
    assert (tower.grid, tower.num_tokens, tower.num_depths) == (resolution // 16, (resolution // 16) ** 2, 3)

    outputs = []
    vit = tower.vit if kind == "timm" else tower.visual
    blocks = vit.transformer.resblocks if name == "tiny-clip" else getattr(vit, "trunk", vit).blocks
    for block in blocks:
        block.register_forward_hook(lambda module, args, output: outputs.append(output))
    features = tower(pixels)
    outputs = [output[:, -tower.num_tokens :] for output in outputs]  # the class token comes first
    for got, expected in zip(features, [outputs[-1], outputs[0], outputs[-1]], strict=True):
        assert got.shape == (2, tower.num_tokens, tower.hidden_size)
        assert torch.equal(got, expected)


@MODELS
@torch.no_grad()
def test_layers_above_the_selected_one_are_not_computed(libraries, kind, name, resolution):
    tower = build(kind, name, 1)
    calls = []
    vit = tower.vit if kind == "timm" else tower.visual
    blocks = vit.transformer.resblocks if name == "tiny-clip" else getattr(vit, "trunk", vit).blocks
    for block in blocks:
        block.register_forward_hook(lambda *_: calls.append(1))
    tower(torch.randn(1, 3, resolution, resolution))
    assert len(calls) == 1
    assert tower.num_layers > 1


@MODELS
@torch.no_grad()
def test_a_resized_tower_saves_and_loads_equal(libraries, kind, name, resolution):
    tower = build(kind, name)
    tower.resize(64)
    pixels = torch.randn(1, 3, 64, 64)
    assert (tower.grid, tower.resolution) == (4, 64)
    assert tower.default_preprocessor_config()["size"] == {"height": 64, "width": 64}
    again = build_vision_tower(tower.config, select_layer=-2, select_feature="patch").eval()
    again.load_state_dict(tower.state_dict())
    assert torch.equal(again(pixels)[0], tower(pixels)[0])


@MODELS
@torch.no_grad()
def test_a_tower_is_built_without_memory_and_filled_from_a_checkpoint(libraries, kind, name, resolution):
    tower, pixels = build(kind, name), torch.randn(1, 3, resolution, resolution)
    with init_empty_weights():
        empty = build(kind, name)
    assert next(empty.parameters()).is_meta
    empty.load_state_dict(tower.state_dict(), assign=True)
    assert torch.equal(empty(pixels)[0], tower(pixels)[0])


def test_each_library_brings_its_own_statistics(libraries):
    timm, _ = libraries
    clip = build("open_clip", "tiny-clip").default_preprocessor_config()
    assert clip["image_mean"] == pytest.approx(CLIP_MEAN)
    assert clip["size"] == {"height": 32, "width": 32}
    vit = build("timm", "vit_tiny_patch16_224").default_preprocessor_config()
    expected = timm.get_pretrained_cfg("vit_tiny_patch16_224")
    assert vit["image_mean"] == list(expected.mean)
    assert vit["resample"] == {"bilinear": 2, "bicubic": 3}[expected.interpolation]


@torch.no_grad()
def test_published_weights_are_read_from_a_file_and_not_again_with_a_saved_config(libraries, tmp_path):
    timm, open_clip = libraries
    clip, vit = open_clip.create_model("tiny-clip").eval(), timm.create_model("test_vit").eval()
    torch.save(clip.state_dict(), tmp_path / "RemoteCLIP.pt")  # RemoteCLIP publishes a plain state dict
    save_file(vit.state_dict(), tmp_path / "vit.safetensors")

    tower = build("open_clip", "tiny-clip", pretrained=str(tmp_path / "RemoteCLIP.pt"))
    assert torch.equal(tower.visual.conv1.weight, clip.visual.conv1.weight)
    assert sorted(tower.state_dict()) == sorted(key for key in clip.state_dict() if key.startswith("visual."))
    assert tower.config["pretrained"] is False

    tower = build("timm", "test_vit", pretrained=str(tmp_path / "vit.safetensors"))
    assert torch.equal(tower.vit.blocks[0].attn.qkv.weight, vit.blocks[0].attn.qkv.weight)
    assert tower.config["pretrained"] is False


@MODELS
def test_a_model_with_a_library_tower_trains_saves_loads_and_answers(libraries, kind, name, resolution, tmp_path):
    """The tower is in a folder of its own, and is joined with a language model."""
    tower, folder = build(kind, name), tmp_path / "tower"
    folder.mkdir()
    save_file(tower.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"vision_tower_type": kind, "model_name": name}))
    llm = write_language_model(tmp_path / "llm", "smollm2")
    model = BTCChat.from_parts(vision_tower=folder, llm=llm, conv_version="chatml", device="cpu")
    assert all(torch.equal(model.vision_tower.state_dict()[key], value) for key, value in tower.state_dict().items())

    pair = [Image.new("RGB", (40, 32), colour) for colour in ("red", "green")]
    conversations = [{"from": "human", "value": "What changed?"}, {"from": "gpt", "value": "two houses are built ."}]
    record = Record(where="a test", modality="pair", sources=pair, conversations=conversations)
    model.train()
    model(**model.processor.collate([model.processor(record, train=True)])).loss.backward()
    assert any(weight.grad is not None for weight in model.vision_tower.parameters())
    torch.optim.SGD(model.parameters(), lr=1e-2).step()

    model.eval().save_pretrained(tmp_path / "model")
    again = BTCChat.from_pretrained(tmp_path / "model", device="cpu")
    asked = [request("What changed?", "pair", pair), request("What is here?", "image", pair[0])]
    options = GenerationOptions(max_new_tokens=8)
    assert again.answer(asked, options) == model.answer(asked, options)
    assert again.image_processor.to_config() == model.image_processor.to_config()


@pytest.mark.parametrize(
    ("kind", "name", "options", "words"),
    [
        ("timm", "vit_tny_patch16_224", {}, "unknown timm model 'vit_tny_patch16_224'; did you mean vit_tiny_patch16"),
        ("timm", "resnet18", {}, "timm model 'resnet18' is not a plain ViT"),
        ("timm", "test_vit", {"select_layer": 0}, "gives no embeddings .* choose from 1 to"),
        ("timm", "test_vit", {"pretrained": "no.safetensors"}, "no weights file at no.safetensors"),
        ("open_clip", "ViT-B32", {}, "unknown open_clip model 'ViT-B32'; did you mean ViT-B-32"),
        ("open_clip", "RN50", {}, "open_clip model 'RN50' is not a plain ViT"),
        ("open_clip", "tiny-clip", {"select_layer": 7}, "out of range: the vision tower has 3 layers"),
        ("open_clip", "tiny-clip", {"pretrained": True}, "pretrained is True, expected a tag .* or a file"),
    ],
)
def test_the_error_says_why_a_tower_cannot_be_built(libraries, kind, name, options, words):
    with pytest.raises(BTCChatError, match=words):
        build(kind, name, **options)


@pytest.mark.parametrize(("kind", "package"), [("timm", "timm"), ("open_clip", "open_clip_torch")])
def test_an_absent_library_names_the_extra_to_install(monkeypatch, kind, package):
    monkeypatch.setitem(sys.modules, kind, None)  # importing it raises ImportError
    with pytest.raises(BTCChatError, match=rf"needs the package {package}, .*pip install 'btcchat\[towers\]'"):
        build(kind, "ViT-B-32")


def test_a_library_tower_needs_a_model_name():
    with pytest.raises(BTCChatError, match="vision tower 'timm' needs a model_name"):
        build("timm", None)
