"""The facts of a checkpoint, as run.json records them: those of the loaded model, but read without its weights."""

import json

import pytest

from btcchat.api import BTCChat
from btcchat.checkpoint.describe import describe_checkpoint
from btcchat.checkpoint.facts import parts_text
from tests.tiny import tiny_model


@pytest.mark.parametrize(
    ("change_encoder", "fields", "text"),
    [
        ({"change_encoder_type": "concat"}, {}, "concat; 2 segments, "),
        (
            {"change_encoder_type": "cc_expert", "per_expert_depth": 2},
            {"mm_vision_select_layer": [-2, -1]},
            "difference_aware (",
        ),
    ],
)
def test_the_facts_are_those_of_the_model(tmp_path, change_encoder, fields, text):
    tiny_model(tmp_path, change_encoder=change_encoder, **fields).save_pretrained(tmp_path / "model")
    model = BTCChat.from_pretrained(tmp_path / "model", device="cpu")
    parts, prompts = describe_checkpoint(tmp_path / "model")
    encoder = parts["change_encoder"]
    assert encoder["segments"] == model.change_encoder.segments
    assert encoder["tokens_per_pair"] == sum(model.layout.lengths("pair", 2))
    assert encoder["options"].items() >= {k: v for k, v in change_encoder.items() if k != "change_encoder_type"}.items()
    assert not {"num_depths", "hidden_size", "grid"} & encoder["options"].keys()
    assert parts["vision_tower"]["select_layers"] == model.config.select_layers
    assert prompts["caption_question"] == model.config.caption_question
    shown = parts_text(parts)
    assert shown["change encoder"].startswith(text)
    assert shown["change encoder"].endswith(f"{encoder['tokens_per_pair']} tokens per pair")


def test_facts_that_a_folder_does_not_record_are_those_the_model_assumes_with_one_warning(tmp_path, caplog):
    tiny_model(tmp_path).save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "mm_projector" / "config.json"
    projector = json.loads(file.read_text())
    del projector["change_encoder"]
    file.write_text(json.dumps(projector))
    parts, _ = describe_checkpoint(tmp_path / "model", encoder_options={"cc_head": 4})
    assert parts["change_encoder"]["options"] == {"cc_n_layers": 1, "cc_head": 4, "cc_dropout": 0.0}
    parts, _ = describe_checkpoint(tmp_path / "model")
    assert parts["change_encoder"]["options"]["cc_head"] == 8
    assert not caplog.records
    BTCChat.from_pretrained(tmp_path / "model", device="cpu")
    assert ["cc_head" in record.message for record in caplog.records] == [True]
