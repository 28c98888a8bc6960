"""`btcchat.geo.scenes` with the packaged model."""

import subprocess
import sys

import pytest

import btcchat.geo
from tests.geo.drawn import drawn_pair, write


def test_tiles_are_yielded_as_they_finish_and_an_abandoned_run_can_be_resumed(tiny, tmp_path):
    before, after, _ = drawn_pair(2)
    paths = write(tmp_path / "b_2019.tif", before), write(tmp_path / "a_2020.tif", after)
    options = {"model": tiny, "overlap": 0, "batch_size": 1, "max_new_tokens": 24, "questions": ["Is there a pond?"]}
    tiles = btcchat.geo.scenes(*paths, tmp_path / "out", **options)
    first = next(tiles)
    tiles.close()
    assert not (tmp_path / "out" / "tiles.gpkg").exists()
    others = list(btcchat.geo.scenes(*paths, tmp_path / "out", resume=True, **options))
    assert [first.tile, *(tile.tile for tile in others)] == [0, 1, 2, 3]
    assert first.status == "done" and first.caption and 0 <= first.change <= 1 and len(first.answers) == 1
    assert first.properties["area_m2"] == pytest.approx(128 * 128, rel=0.002)
    assert 42.7 < first.latitude < 42.9 and 13.1 < first.longitude < 13.3
    assert (tmp_path / "out" / "tiles.gpkg").exists()
    with pytest.raises(AttributeError):
        btcchat.geo.nothing  # noqa: B018


def test_the_caption_of_a_tile_is_that_of_the_same_pair(tiny, tmp_path):
    before, after, _ = drawn_pair(1)
    paths = write(tmp_path / "b.tif", before), write(tmp_path / "a.tif", after)
    [tile] = btcchat.geo.scenes(*paths, tmp_path / "out", model=tiny)
    assert tile.caption == tiny.caption(before, after)
    change = tiny.change_map(before, after)
    assert tile.change == pytest.approx((change > tiny.config.change_threshold["value"]).mean(), abs=0.002)


def test_the_first_use_prints_nothing(pair, tmp_path):
    """For example no warning of transformers about torch."""
    code = "import sys, btcchat.geo; print(len(list(btcchat.geo.scenes(*sys.argv[1:], tile=192, min_change=1))))"
    command = [sys.executable, "-c", code, *map(str, pair), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert (done.stdout, done.stderr) == ("9\n", "")
