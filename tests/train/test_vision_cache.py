"""With a frozen tower's features cached on disk, training is the same but does not run the tower."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from btcchat import BTCChat
from btcchat.errors import BTCChatError
from btcchat.media import Reading
from btcchat.multimodal_encoder.siglip import SiglipTower
from btcchat.train.encoder import TrainingEncoder
from btcchat.train.feature_cache import FeatureCache

EVERYTHING = "images+pairs+series+videos+texts"
TUNE = {"tune_mm_projector": True, "tune_language_model": True, "max_steps": 12}  # 29 samples: more than one epoch


def losses(trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def files(folder) -> set[str]:
    return {path.name for path in folder.rglob("*.safetensors")}


@pytest.fixture
def towers(monkeypatch):
    """How many images each call of a tower was given."""
    given, forward = [], SiglipTower.forward
    monkeypatch.setattr(SiglipTower, "forward", lambda self, x: given.append(len(x)) or forward(self, x))
    return given


@pytest.mark.parametrize("bf16", [False, True])
def test_a_cached_run_equals_an_uncached_one_and_a_second_one_needs_no_tower(run, tmp_path, towers, bf16):
    flags = TUNE | {"bf16": bf16}
    plain = losses(run(EVERYTHING, **flags))
    assert sum(towers) > 70 and len(set(plain)) > 10
    towers.clear()
    cached = flags | {"cache_vision_features": tmp_path / "cache"}
    first = losses(run(EVERYTHING, **cached, output_dir=tmp_path / "first"))
    assert 4 <= sum(towers) < 70, "an image is computed only once"
    assert len(files(tmp_path / "cache")) == 4, "keyed by content: the clips show the same four colours"
    towers.clear()
    second = losses(run(EVERYTHING, **cached, output_dir=tmp_path / "second"))
    assert towers == []
    assert first == pytest.approx(plain, rel=1e-6) and second == pytest.approx(plain, rel=1e-6)


def test_several_workers_fill_and_read_the_cache(run, tmp_path, towers):
    plain = losses(run("pairs", **TUNE))
    flags = TUNE | {"cache_vision_features": tmp_path / "cache", "dataloader_num_workers": 2}
    assert losses(run("pairs", **flags, output_dir=tmp_path / "first")) == pytest.approx(plain, rel=1e-6)
    towers.clear()
    assert losses(run("pairs", **flags, output_dir=tmp_path / "second")) == pytest.approx(plain, rel=1e-6)
    assert towers == []
    assert not list((tmp_path / "cache").rglob(".*")), "no half-written file is left"


def test_changed_pixels_are_computed_again(run, data_root, tmp_path, towers):
    root = shutil.copytree(data_root, tmp_path / "data")
    flags = TUNE | {"cache_vision_features": tmp_path / "cache", "data_root": root, "mixture_folder": root}
    run("images", **flags)
    before = files(tmp_path / "cache")
    towers.clear()
    Image.new("RGB", (32, 32), (1, 2, 3)).save(root / "red.png")
    run("images", **flags, output_dir=tmp_path / "again")
    assert towers == [1]
    assert len(files(tmp_path / "cache") - before) == 1


@pytest.fixture
def model(checkpoint):
    return BTCChat.from_pretrained(checkpoint, device="cpu")


def test_another_tower_preprocessing_reading_layer_or_precision_is_another_folder(model, tmp_path):
    def folder(computed="no"):
        return FeatureCache.of(tmp_path, model, {"mixed_precision": computed}).folder

    seen = [folder()]
    assert folder() == seen[0]
    with torch.no_grad():
        next(model.vision_tower.parameters()).flatten()[0] += 1e-3
    seen.append(folder())
    model.image_processor.aspect_ratio = "square"
    seen.append(folder())
    model.config.mm_vision_select_layer = 0
    seen.append(folder())
    model.config.mm_vision_select_feature = "patch"
    seen.append(folder())
    model.vision_tower.resize(48)
    seen.append(folder())
    seen.append(folder("bf16"))
    model.processor.reading = Reading(stretch="per-date")
    seen.append(folder("bf16"))
    assert len(set(seen)) == len(seen) == 8
    about = json.loads((seen[-1] / "about.json").read_text())
    assert about["resolution"] == 48 and about["computed"] == {"mixed_precision": "bf16"}


def test_a_damaged_file_is_computed_again(tmp_path, caplog):
    cache, features = FeatureCache(tmp_path, {}), torch.randn(2, 1, 4, 3)
    assert cache.load("aa") is None
    cache.store(["aa", "ab"], features)
    assert torch.equal(cache.load("ab"), features[1])
    path = next(cache.folder.glob("ab/ab.*"))
    path.write_bytes(path.read_bytes()[:40])
    assert cache.load("ab") is None and "is damaged" in caplog.text
    cache.store(["ab"], features[:1])
    assert torch.equal(cache.load("ab"), features[0])


def test_features_keep_the_order_of_the_frames_whichever_are_known(model, tmp_path):
    """The first, the last, all or none of a batch's frames are already in the cache."""
    images = [Image.new("RGB", (32, 32), (40 * i, 100, 250 - 40 * i)) for i in range(4)]
    frames = model.processor.pixels(images)
    whole, lengths = model.encode(frames, ["pair", "image", "image"], [2, 1, 1])
    for known in ([], [0], [3], [1, 2], [0, 1, 2, 3]):
        cache = FeatureCache(tmp_path / str(known), {})
        for index in known:
            (depth,) = model.see(frames[index : index + 1])
            cache.store([cache.key(frames[index])], depth[:, None])
        text = {"input_ids": torch.tensor([1]), "labels": torch.tensor([1])}
        samples = [
            text | {"frames": frames[:2], "modality": "pair"},
            text | {"frames": frames[2:3], "modality": "image"},
            text | {"frames": frames[3:], "modality": "image"},
        ]
        batch = model.processor.collate([cache.take(sample) for sample in samples])
        assert [key is None for key in batch["cached"][1]] == [index in known for index in range(4)]
        encode = TrainingEncoder(cache=cache).with_cached(batch["cached"])
        found, counts, *_ = encode(model, *(batch[name] for name in ("frames", "modalities", "frame_counts")))
        assert counts == lengths
        torch.testing.assert_close(found, whole)


@pytest.mark.parametrize(("mixture", "which"), [("images", [0, 1]), ("texts", [0])])
def test_a_blank_pair_needs_no_tower_either(run, tmp_path, towers, mixture, which):
    """With several processes, each runs the change encoder in every step."""
    flags = {"tune_mm_projector": True, "cache_vision_features": tmp_path / "cache"}
    trainer = run(mixture, **flags, max_steps=3)
    model = trainer.model.float().train()
    batch = model.processor.collate([trainer.train_dataset[i] for i in which])
    encoder = trainer.encoder.with_cached(batch.pop("cached"))
    towers.clear()
    model.zero_grad()
    alone = model(**batch, encoder=encoder).loss.detach()
    loss = model(**batch, encoder=replace(encoder, every_part=True)).loss
    (loss if loss.requires_grad else loss + 0 * alone).backward()
    assert towers == [] and torch.equal(loss, alone)
    gradients = [p.grad for p in model.change_encoder.parameters()]
    assert all(g is not None and torch.equal(g, torch.zeros_like(g)) for g in gradients)


def test_a_trained_tower_is_not_cached(run, tmp_path):
    with pytest.raises(BTCChatError, match="--cache_vision_features keeps .* frozen .*--tune_vision_tower True"):
        run("images", tune_vision_tower=True, cache_vision_features=tmp_path)
    with pytest.raises(BTCChatError, match="--cache_vision_features keeps .* frozen"):
        run("images", mm_tunable_parts="mm_vision_tower", cache_vision_features=tmp_path)


def test_a_full_disk_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BTCChatError, match="--cache_vision_features: .* cannot be written: .*; free some space"):
        FeatureCache(tmp_path / "file", {})


def test_equal_bytes_of_another_shape_are_another_image(tmp_path):
    cache, values = FeatureCache(tmp_path, {}), torch.arange(48, dtype=torch.uint8)
    keys = {cache.key(values.reshape(shape)) for shape in ((3, 2, 8), (3, 4, 4), (3, 8, 2), (1, 12, 4))}
    assert len(keys) == 4 and cache.key(values.reshape(3, 4, 4)) in keys


def test_an_error_while_writing_leaves_no_partial_file(tmp_path, monkeypatch):
    cache, write = FeatureCache(tmp_path, {}), Path.write_bytes

    def half(path, data):
        write(path, data[: len(data) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half)
        with pytest.raises(KeyboardInterrupt):
            cache.store(["aa"], torch.ones(1, 1, 4, 3))
    assert [path.name for path in cache.folder.rglob("*") if path.is_file()] == ["about.json"]
    assert cache.load("aa") is None
