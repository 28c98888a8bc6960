"""--mask_loss trains the change map on the masks of the rows; --label_smoothing changes the loss of the text."""

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.Image import Transpose

from btcchat.data.records import parse
from btcchat.errors import BTCChatError
from btcchat.train.map_loss import changed_share
from tests.train.conftest import talk

TRAINED = {"tune_mm_projector": True, "random_batches": True, "max_steps": 12, "learning_rate": 3e-3}


def distances(trainer) -> torch.Tensor:
    """(g, g) of a pair that changes."""
    model = trainer.model.eval()
    with torch.no_grad():
        record = next(one for one in trainer.train_dataset.some(16) if one.row["images"] == ["red.png", "blue.png"])
        frames = model.processor.pixels(model.processor.load_frames(record))
        return model.distances(model.see(frames))[0]


def test_the_map_learns_the_masks(run, masked):
    trained = distances(run(masked, **TRAINED, mask_loss=3.0))
    middle = trained.shape[1] // 2
    gap = trained[:, :middle].mean() - trained[:, middle:].mean()
    plain = distances(run(masked, **TRAINED, overwrite_output_dir=True))
    assert gap > plain[:, :middle].mean() - plain[:, middle:].mean() + 0.02


def test_the_first_loss_includes_the_map_loss(run, masked):
    def first(**flags) -> float:
        return run(masked, **TRAINED | {"max_steps": 1}, **flags, overwrite_output_dir=True).state.log_history[0][
            "loss"
        ]

    plain, once, twice = first(), first(mask_loss=1.0), first(mask_loss=2.0)
    assert once > plain + 0.1
    assert twice - once == pytest.approx(once - plain, rel=1e-3)


def test_a_batch_may_mix_pairs_with_other_samples_and_pairs_may_be_augmented(run, masked):
    run(f"{masked}+images+series+texts", **TRAINED | {"max_steps": 3}, mask_loss=1.0, augment_pairs=True)


def test_cached_features_give_the_same_loss(run, masked, tmp_path):
    flags = TRAINED | {"max_steps": 1, "mask_loss": 1.0, "overwrite_output_dir": True}
    losses = [
        run(masked, **flags, **cache).state.log_history[0]["loss"]
        for cache in ({}, *[{"cache_vision_features": tmp_path / "cache"}] * 2)
    ]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


@pytest.mark.parametrize(
    "mixture, flags, words",
    [
        ("pairs", {"tune_mm_projector": True}, "pairs.json row 1: no 'mask', which --mask_loss needs of every pair"),
        ("masked", {"tune_language_model": True}, "'attentive', which is frozen; set --tune_cc_projector True"),
        (
            "masked",
            {"tune_mm_projector": True, "fresh_change_encoder": True, "chg_type": "concat"},
            "the change encoder 'concat' has none; leave --mask_loss out",
        ),
        ("masked", {"tune_mm_projector": True, "mask_loss": -1}, "--mask_loss is -1, expected 0 or more"),
        ("masked", {"tune_mm_projector": True, "label_smoothing": 2}, "--label_smoothing is 2, expected 0 to 1"),
    ],
)
def test_a_run_without_masks_or_a_map_to_train_is_an_error(run, masked, mixture, flags, words):
    with pytest.raises(BTCChatError) as error:
        run(mixture, **{"mask_loss": 1.0} | flags)
    assert words in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) <= 300


def test_label_smoothing_applies_to_the_training_loss(run):
    losses = [
        run(**TRAINED | {"max_steps": 1}, label_smoothing=share, overwrite_output_dir=True).state.log_history[0]["loss"]
        for share in (0.0, 0.5)
    ]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("view", [None, *Transpose])
def test_the_changed_share_follows_the_augmented_view(tmp_path, view):
    mask = np.zeros((4, 8), np.uint8)
    mask[:2, :2] = 1  # the upper left
    Image.fromarray(mask).save(tmp_path / "mask.png")
    row = {"modality": "pair", "images": ["a.png", "b.png"], "mask": "mask.png", "conversations": talk("<image>", "x")}
    record = parse(row, "row 1", str(tmp_path))
    object.__setattr__(record, "view", view)
    squashed = np.zeros((2, 2), np.float32)
    squashed[0, 0] = 0.5
    padded = np.zeros((4, 4), np.float32)
    padded[1, 0] = 1.0
    for wanted, pad in ((squashed, False), (padded, True)):
        shown = Image.fromarray(wanted) if view is None else Image.fromarray(wanted).transpose(view)
        found = changed_share(record, len(wanted), padded=pad)
        torch.testing.assert_close(found, torch.from_numpy(np.array(shown)))
