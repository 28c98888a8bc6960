"""What a trained model's config.json tells `btcchat scenes`: the resolution of its data, the threshold of its maps."""

import logging
import tarfile

import pytest

from btcchat import BTCChat
from btcchat.data.mixture import build_datasets
from btcchat.files import read_json
from btcchat.train.scene_facts import stated_gsd

THRESHOLD = {"value": 0.25, "chosen_on": "12 pairs"}
SETS = """
fine: {annotation: pairs.json, images: ., gsd: 0.5}
as_fine: {annotation: series.jsonl, images: ., gsd: 0.5}
coarse: {annotation: images.jsonl, images: ., gsd: 10}
"""


@pytest.fixture(autouse=True)
def described(data_root):
    file = data_root / "described.yaml"
    file.write_text(SETS)
    yield
    file.unlink()


@pytest.fixture
def known(tmp_path):
    """A checkpoint that says both."""
    from tests.tiny import tiny_model

    tiny_model(tmp_path, training_gsd=3.0, change_threshold=THRESHOLD).save_pretrained(tmp_path / "known")
    return tmp_path / "known"


@pytest.mark.parametrize(
    ("mixture", "gsd", "said"),
    [
        ("fine+as_fine+texts", 0.5, "training_gsd in config.json: 0.5 m"),  # no image of texts has another one
        ("fine+coarse", None, "left out, as the data sets have 0.5 to 10 m"),
        ("fine+pairs", None, "left out, as no gsd is stated for pairs"),
    ],
)
def test_the_resolution_that_all_sets_state_is_saved(run, mixture, gsd, said, caplog):
    with caplog.at_level(logging.INFO, "btcchat.train.scene_facts"):
        trainer = run(mixture, tune_language_model=True, max_steps=1)
    assert read_json(trainer.output_dir / "config.json").get("training_gsd") == gsd
    assert said in caplog.text and "the checkpoint had" not in caplog.text


def test_the_facts_of_a_checkpoint_go_when_training_makes_them_untrue(run, known, caplog):
    with caplog.at_level(logging.INFO, "btcchat.train.scene_facts"):
        trainer = run("pairs", model_name_or_path=known, tune_mm_projector=True, max_steps=1)
    assert not {"training_gsd", "change_threshold"} & read_json(trainer.output_dir / "config.json").keys()
    assert "no gsd is stated for pairs (the checkpoint had 3 m)" in caplog.text
    assert "it was chosen on 12 pairs, before this training of change_encoder" in caplog.text


def test_facts_that_training_does_not_touch_are_kept(run, known):
    trainer = run("texts", model_name_or_path=known, tune_language_model=True, max_steps=1)
    config = BTCChat.from_pretrained(trainer.output_dir).config
    assert (config.training_gsd, config.change_threshold) == (3.0, THRESHOLD)


def test_a_fresh_change_encoder_has_no_threshold(known):
    config = BTCChat.from_pretrained(known, fresh_change_encoder=True, device="cpu").config
    assert (config.training_gsd, config.change_threshold) == (3.0, None)


def test_a_streamed_set_counts_with_the_others(data_root, tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        tar.add(data_root / "red.png", "0.png")
    (tmp_path / "sets.yaml").write_text(
        f"streamed: {{annotation: {tmp_path}/0.tar, gsd: 2}}\n"
        f"texts: {{annotation: {data_root}/texts.jsonl, gsd: 7}}\nfine: {{annotation: {data_root}/pairs.json}}\n"
    )
    mixture = build_datasets("streamed+fine+texts", lambda record: record, folder=tmp_path, data_root=tmp_path)
    assert stated_gsd(mixture) == {"streamed": 2, "fine": None}
