"""A fresh difference_aware change encoder on a checkpoint without one, as CCExpert starts from LLaVA-OneVision."""

import pytest

from btcchat import BTCChat
from btcchat.errors import BTCChatError
from btcchat.train.arguments import ModelArguments

INTRO = "This is the Image1 <image>. This is the second Image2 <image>.\n"


def test_depths_and_change_encoder_are_those_of_the_flags_and_are_saved(run, tmp_path):
    from tests.tiny import tiny_model

    mlp = {"mm_projector_type": "mlp2x_gelu"}
    tiny_model(tmp_path, change_encoder=None, llm="qwen2", mm_projector=mlp).save_pretrained(tmp_path / "onevision")
    flags = {"model_name_or_path": tmp_path / "onevision", "from_origin": True, "chg_type": "cc_expert"}
    flags |= {"mm_vision_select_layer": "[-2,-1]", "cc_expert_args": '{"per_expert_depth": 1}'}
    trainer = run(tune_mm_projector=True, version="qwen_1_5", pair_prompt=INTRO, caption_question="What?", **flags)
    model = BTCChat.from_pretrained(trainer.args.output_dir, device="cpu")
    assert model.config.change_encoder == {"change_encoder_type": "difference_aware", "per_expert_depth": 1}
    assert model.vision_tower.num_depths == 2
    assert (model.config.pair_prompt, model.config.caption_question) == (INTRO, "What?")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"mm_vision_select_layer": "-2,-1"}, "mm_vision_select_layer is '-2,-1', expected one layer such as -2 or a"),
        ({"cc_expert_args": "{depth: 2}"}, "--cc_expert_args is no JSON: {depth: 2}"),
    ],
)
def test_a_flag_that_cannot_be_read_is_one_clear_line(flags, message):
    with pytest.raises(BTCChatError, match=message):
        ModelArguments("model", **flags)
