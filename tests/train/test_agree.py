"""Flags whose values the checkpoint already fixes."""

import json

import pytest

from btcchat.checkpoint.config import BTCChatConfig
from btcchat.errors import BTCChatError
from btcchat.train.agree import check_agreement
from btcchat.train.arguments import ModelArguments

SO400M = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 384,
}


def check(tower: dict = SO400M, projector: str = "mlp_downsample", **flags) -> None:
    config = BTCChatConfig(
        vision_tower=tower,
        mm_projector={"mm_projector_type": projector},
        change_encoder={"change_encoder_type": "concat"},
    )
    check_agreement(ModelArguments(model_name_or_path="m", **flags), config)


def test_the_published_tower_and_projector_agree_with_the_published_checkpoint():
    check(vision_tower="google/siglip-so400m-patch14-384", mm_projector="mlp_downsample", mm_use_im_patch_token=False)
    check(vision_tower="google/siglip2-so400m-patch14-384")
    check(projector="/home/someone/checkpoints/stage1/mm_projector", mm_projector="mlp_downsample")


@pytest.mark.parametrize(
    ("tower", "message"),
    [
        ("google/siglip-base-patch16-384", r"hidden_size 768\), but the .* says hidden_size 1152"),
        ("google/siglip2-giant-opt-patch16-384", r"hidden_size 1536\), but the .* says hidden_size 1152"),
        ("google/siglip-so400m-patch14-224", r"image_size 224\), but the .* says image_size 384"),
        ("openai/clip-vit-large-patch14", "neither a folder here nor google/siglip-SIZE.*hidden_size 1152"),
    ],
)
def test_another_tower_is_an_error_naming_both_sizes(tower, message):
    with pytest.raises(BTCChatError, match=message):
        check(vision_tower=tower)


def test_a_folder_is_compared_by_its_config(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": SO400M}))
    check(vision_tower=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(SO400M | {"num_hidden_layers": 26}))
    with pytest.raises(BTCChatError, match=r"num_hidden_layers 26\), but the .* says num_hidden_layers 27"):
        check(vision_tower=str(tmp_path))


def test_a_tower_of_a_library_is_compared_by_its_name():
    tower = {"vision_tower_type": "timm", "model_name": "vit_tiny_patch16_224"}
    check(tower, vision_tower="vit_tiny_patch16_224")
    with pytest.raises(BTCChatError, match=r"model_name vit_base_patch16_224\), but the .* says model_name vit_tiny"):
        check(tower, vision_tower="vit_base_patch16_224")


def test_layers_are_compared_as_numbers():
    check(mm_vision_select_layer="-2")
    with pytest.raises(BTCChatError, match=r"--mm_vision_select_layer is \[-5, -2\], .* says -2"):
        check(mm_vision_select_layer="[-5,-2]")


def test_change_tokens_from_a_checkpoint_without_a_change_encoder_are_an_error():
    check(chg=False)
    with pytest.raises(BTCChatError, match="--chg True, but the checkpoint's change encoder is concat"):
        check(chg=True)
