"""Training that starts from a language model and a vision tower, as their authors published them."""

import pytest
import torch

from btcchat import BTCChat, request
from btcchat.errors import BTCChatError
from btcchat.generation import GenerationOptions
from tests.backbones import AVAILABLE, FAMILIES, write_language_model, write_siglip2
from tests.test_model import picture

SHORT = GenerationOptions(max_new_tokens=8)
TUNED = {"tune_language_model": True, "tune_mm_projector": True}


@pytest.fixture
def parts(tmp_path):
    def write(name: str) -> dict:
        llm, tower = write_language_model(tmp_path / "llm", name), write_siglip2(tmp_path / "siglip2")
        return {"model_name_or_path": llm, "vision_tower": tower, "version": FAMILIES[name].template} | TUNED

    return write


@pytest.mark.parametrize("name", AVAILABLE)
def test_a_language_model_and_siglip_2_train_save_load_and_answer(name, run, parts):
    flags = parts(name)
    trainer = run("pairs+images", mm_vision_select_layer=-1, **flags)
    model = BTCChat.from_pretrained(trainer.args.output_dir, dtype=torch.float32, device="cpu")
    ids = torch.arange(9)[None]
    assert torch.equal(model.llm(ids).logits, trainer.model.eval().llm(ids).logits)
    start = BTCChat.from_parts(
        llm=flags["model_name_or_path"], vision_tower=flags["vision_tower"], mm_vision_select_layer=-1, device="cpu"
    )
    assert not torch.equal(model.llm(ids).logits, start.llm(ids).logits)
    for key, value in start.vision_tower.state_dict().items():
        assert torch.equal(model.vision_tower.state_dict()[key], value)
    assert model.config.conv_version == flags["version"] and model.config.mm_vision_select_layer == -1
    assert model.image_processor.resample == 2  # SigLIP 2's own
    asked = [request("What changed?", "pair", [picture(0), picture(1)]), request("What colour?", "image", picture(2))]
    assert model.answer(asked, SHORT) == [model.answer([one], SHORT)[0] for one in asked]


def test_the_other_parts_and_the_wording_are_those_of_the_flags(run, parts):
    words = {"caption_question": "What differs?", "pair_prompt": "From <image>\nto <image>\n", "model_max_length": 300}
    kinds = {"chg_type": "cc_expert", "cc_args": '{"mlp_dim": 24}', "mm_projector": "mlp2x_gelu"}
    trainer = run("pairs", **parts("smollm2"), **words, **kinds, mm_vision_select_layer="[-2,-1]")
    config = BTCChat.from_pretrained(trainer.args.output_dir, device="cpu").config
    options = {"per_expert_depth": 2, "mlp_dim": 24, "downsample_ratio": 1}  # the first and the last are defaults
    assert config.change_encoder == {"change_encoder_type": "difference_aware", **options}
    assert config.mm_projector["mm_projector_type"] == "mlp2x_gelu" and config.mm_vision_select_layer == [-2, -1]
    assert (config.caption_question, config.pair_prompt) == ("What differs?", "From <image>\nto <image>\n")
    assert config.model_max_length == 300


def test_it_is_resumed_from_its_own_checkpoints(run, parts):
    flags = parts("smollm2") | {"save_strategy": "steps", "save_steps": 1}
    run("pairs", **flags, max_steps=1)
    trainer = run("pairs", **flags, max_steps=2, resume=True, overwrite_output_dir=False)
    assert trainer.state.global_step == 2


def test_a_language_model_without_a_tower_is_an_error_that_names_the_flag(run, parts):
    flags = parts("smollm2") | {"vision_tower": None}
    with pytest.raises(
        BTCChatError, match="is a language model; name the vision tower .*--vision_tower google/siglip2"
    ):
        run("pairs", **{name: value for name, value in flags.items() if value is not None})


def test_lora_needs_a_checkpoint_to_adapt(run, parts):
    with pytest.raises(BTCChatError, match="needs a checkpoint to adapt, and .* is only a language model"):
        run("pairs", **parts("smollm2") | {"lora_enable": True, "tune_language_model": False})
