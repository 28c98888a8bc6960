"""The recipe of the small model: scenes stay together, views turn features as Pillow turns images, clues say where."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "v1_5" / "small")]

import clues  # noqa: E402
import dataset  # noqa: E402
import features  # noqa: E402
import learn  # noqa: E402
import offline_parts  # noqa: E402


@pytest.fixture
def data(tmp_path):
    """Three scenes of 4 x 4 tiles; the second continues the first to the right."""
    wide = np.random.default_rng(0).integers(0, 256, (1024, 2048, 3), dtype=np.uint8)
    wide[:, 1024] = wide[:, 1023]
    other = np.random.default_rng(1).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    rows = []
    for folder in ("A", "B", "label"):
        (tmp_path / "images" / "train" / folder).mkdir(parents=True)
    for scene, whole in enumerate((wide[:, :1024], wide[:, 1024:], other)):
        for tile in range(16):
            row, column = (256 * place for place in divmod(tile, 4))
            name = f"test_{16 * scene + tile + 1:06}"
            image = Image.fromarray(whole[row : row + 256, column : column + 256])
            for folder in ("A", "B"):
                image.save(tmp_path / "images" / "train" / folder / f"{name}.jpg", format="PNG")
            Image.new("L", (256, 256)).save(tmp_path / "images" / "train" / "label" / f"{name}.png")
            captions = [{"raw": f" caption {n} . "} for n in range(5)]
            rows.append({"filepath": "train", "filename": f"{name}.jpg", "sentences": captions, "changeflag": 0})
    (tmp_path / "LevirCCcaptions.json").write_text(json.dumps({"images": rows[::-1]}), encoding="utf-8")
    return dataset.read_pairs(tmp_path)


def test_tiles_are_numbered_by_scene_and_place(data):
    assert [(pair.scene, pair.tile) for pair in data] == [(scene, tile) for scene in (1, 2, 3) for tile in range(16)]
    assert data[0].captions[0] == "caption 0 ."


def test_scenes_that_continue_one_another_are_one_group(data):
    assert dataset.scene_groups(data) == [[1, 2], [3]]


def test_a_fold_has_whole_groups_and_every_pair_is_in_one(data):
    folds = dataset.make_folds(data, dataset.scene_groups(data), 2)
    assert sorted(row for fold in folds for row in fold) == list(range(48))
    assert sorted(sorted({data[row].scene for row in fold}) for fold in folds) == [[1, 2], [3]]


@pytest.mark.parametrize("view", features.VIEWS)
def test_a_map_is_turned_as_pillow_turns_an_image(view):
    x = torch.arange(25, dtype=torch.uint8).view(5, 5)
    image = Image.fromarray(x.numpy())
    turned = image if view is None else image.transpose(view)
    assert torch.equal(features.turned(x, view), torch.from_numpy(np.array(turned)))


def test_the_changed_share_is_of_each_patch_in_each_view():
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[0, :2, :4] = True  # the whole upper left quarter's upper half
    share = features.changed_share(masks, 2)
    assert share.shape == (8, 1, 2, 2)
    assert share[0, 0].tolist() == [[0.5, 0.0], [0.0, 0.0]]
    mirrored = features.VIEWS.index(Image.Transpose.FLIP_LEFT_RIGHT)
    assert share[mirrored, 0].tolist() == [[0.0, 0.5], [0.0, 0.0]]


def test_a_clue_says_how_much_and_where():
    changed = torch.zeros(12, 12, dtype=torch.bool)
    assert clues.clue_of(changed) == clues.NONE
    changed[:3, :3] = True
    assert clues.clue_of(changed) == "about 6 % of the area changed, most of it in the top left"
    changed[9:, 9:] = True
    assert clues.clue_of(changed).endswith("in the top left and the bottom right")


def test_map_counts_choose_the_level_with_the_best_iou():
    masks = torch.zeros(2, 24, 24, dtype=torch.bool)
    masks[0, :12, :12] = True
    distance = torch.zeros(2, 12, 12)
    distance[0, :6, :6] = 0.7
    distance[1] = 0.2  # everywhere a little: a false alarm below level 52
    counts = learn.map_counts(distance, masks)
    assert counts.sum() == 2 * 24 * 24
    level = learn.best_level(counts)
    assert 51 < level <= 179
    hits, alarms, misses = np.array(learn.map_outcomes(counts, level)).sum(0)
    assert hits > 120 and alarms + misses < 30


def test_the_rate_rises_and_then_falls_to_nothing():
    rates = [learn.warm_cosine(step, 100) for step in range(101)]
    assert rates[0] == 0.2 and max(rates) == 1 and rates[-1] < 1e-3


def test_rows_of_a_head_are_put_half_a_head_apart():
    """llama.cpp keeps a rotary pair (i, i + d/2) in neighbouring rows."""
    pairs = np.arange(8, dtype=np.float32)[:, None]  # two heads of four rows
    assert offline_parts.halves_apart(pairs, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_names_of_llama_cpp_become_those_of_transformers():
    assert offline_parts.llama_name("blk.7.ffn_down.weight") == "model.layers.7.mlp.down_proj.weight"
    assert offline_parts.llama_name("token_embd.weight") == "model.embed_tokens.weight"
