"""What the EfficientNet tower promises: sizes, its contract, folding, equal padding, plugin registration."""

import json

import pytest
import torch

from btcchat import BTCChatError
from btcchat.cli import main
from btcchat.multimodal_encoder import VISION_TOWERS, build_vision_tower
from efficientnet_tower import Convolution, EfficientNetTower


def tower(**config):
    torch.manual_seed(0)
    config = {"vision_tower_type": "efficientnet_lite2", "image_size": 64, **config}
    return build_vision_tower(config, select_layer=-1, select_feature="cls_patch").eval()


def test_importing_the_module_registers_the_tower():
    assert VISION_TOWERS["efficientnet_lite2"] is EfficientNetTower


def test_it_has_the_published_blocks_and_parameters():
    assert len(tower().blocks) == 21
    head = 352 * 1280 + 2 * 1280 + 1281 * 1000  # of the classifier, which has 6,092,072 parameters
    assert sum(p.numel() for p in tower().parameters()) + head == 6_092_072


@torch.no_grad()
def test_384_pixels_give_144_tokens():
    assert tower(image_size=384)(torch.zeros(1, 3, 384, 384))[0].shape == (1, 144, 352)


@torch.no_grad()
def test_a_finer_stage_is_folded_onto_the_same_grid():
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    both, last = tower(stages=[5, 7]), tower()
    assert both.hidden_size == 4 * 120 + 352
    [joined], [alone] = both(pixels), last(pixels)
    assert joined.shape == (2, 4, 832)
    torch.testing.assert_close(joined[..., 480:], alone)


@pytest.mark.parametrize("kernel", [3, 5])
def test_padding_is_that_of_tensorflow_at_stride_2(kernel):
    left, right, *_ = Convolution(1, 1, kernel, stride=2).padding
    assert (left, right) == {3: (0, 1), 5: (1, 2)}[kernel]


def test_what_does_not_fit_is_an_error_that_says_what_does():
    with pytest.raises(BTCChatError, match="multiple of 32"):
        tower(image_size=100)
    with pytest.raises(BTCChatError, match="one depth, -1"):
        EfficientNetTower({"image_size": 64}, select_layer=-2, select_feature="cls_patch")
    with pytest.raises(BTCChatError, match="some of 1 to 7"):
        tower(stages=[8])


def test_it_keeps_the_contract_without_a_warning(capsys):
    option = ["--option", "image_size=64"]
    assert main(["check", "vision_tower", "efficientnet_tower:EfficientNetTower", "--json", *option]) == 0
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert [check for check in checks if check["result"] != "pass"] == []
