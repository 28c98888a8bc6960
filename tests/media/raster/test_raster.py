"""Windows, sizes and georeferences."""

import subprocess
import sys

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling

from btcchat.errors import BTCChatError
from btcchat.media import Raster, Reading, load_frames, load_image
from tests.media.scenes import scene, write


def test_the_georeference_and_the_bands_are_read(tmp_path):
    path = write(tmp_path / "a.tif", scene("reflectance", side=40)[:30], descriptions=["red", "green", "blue"])
    with Raster(path) as raster:
        assert (raster.width, raster.height) == (40, 30)
        assert raster.crs.to_epsg() == 32618
        assert raster.transform[:6] == (10, 0, 5e5, 0, -10, 4e6)
        assert raster.bounds == (5e5, 4e6 - 300, 5e5 + 400, 4e6)
        assert raster.footprint == [(5e5, 4e6), (500400, 4e6), (500400, 3999700), (5e5, 3999700)]
        assert [band.description for band in raster.channels.bands] == ["red", "green", "blue"]
        window = raster.read((20, 10, 20, 10), (10, 5))
        assert window.transform[:6] == (20, 0, 500200, 0, -20, 3999900)


def test_a_file_without_georeference_has_none(shared):
    with Raster(shared / "cases/07-single-band-planar/rgb_planar_u16.tif") as raster:
        assert raster.crs is None and raster.transform[:6] == (1, 0, 0, 0, 1, 0)


@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16}], ids=str)
@pytest.mark.parametrize("size", [(24, 24), (20, 13), (7, 48), (48, 47), (1, 1)])
def test_a_smaller_size_is_the_mean_of_what_it_covers(tmp_path, monkeypatch, layout, size):
    monkeypatch.setattr("btcchat.media.raster.raster.CHUNK", 300)  # many parts
    monkeypatch.setattr("btcchat.media.raster.raster.MEANT", 100)  # every value
    values = scene("float", side=64)
    with Raster(write(tmp_path / "a.tif", values, **layout)) as raster:
        assert (raster.read().values == values).all()
        assert (raster.read((3, 5, 48, 48)).values == values[5:53, 3:51]).all()
        smaller = raster.read((3, 5, 48, 48), size)
    fine = np.kron(values[5:53, 3:51].astype(np.float64), np.ones((size[1], size[0], 1)))  # the common grid of both
    mean = fine.reshape(size[1], 48, size[0], 48, 3).mean(axis=(1, 3))
    assert smaller.values.shape == (size[1], size[0], 3) and smaller.valid.all()
    np.testing.assert_allclose(smaller.values, mean, rtol=1e-5)


def test_a_sample_is_enough_for_pixels_that_cover_many(tmp_path):
    values = scene("reflectance", side=512)
    with Raster(write(tmp_path / "a.tif", values)) as raster:
        smaller = raster.read(size=(32, 32)).values
    assert np.abs(smaller - values.reshape(32, 16, 32, 16, 3).mean(axis=(1, 3))).mean() < 0.03 * np.ptp(values)


def test_no_data_does_not_bleed_into_a_smaller_size(tmp_path):
    values = scene("counts", side=64)
    values[:, :21] = -9999  # half of the sixth new column is no data
    with Raster(write(tmp_path / "a.tif", values)) as raster:
        smaller = raster.read(size=(16, 16))
    assert not smaller.valid[:, :5].any() and smaller.valid[:, 5:].all()
    assert smaller.values[:, 5:].min() >= 200


def test_overviews_are_read_if_they_are_large_enough(tmp_path):
    path = write(tmp_path / "a.tif", scene("reflectance", side=256), tiled=True, blockxsize=64, blockysize=64)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], Resampling.average)
    marked = tmp_path / "b.tif"
    with rasterio.open(path) as file, rasterio.open(marked, "w", **file.profile) as other:
        other.write(np.zeros((3, 256, 256), np.uint16))
    with rasterio.open(marked, "r+") as file:
        file.build_overviews([2, 4], Resampling.nearest)
        file.write(np.full((3, 256, 256), 500, np.uint16))  # the overviews keep what was there
    with Raster(marked, reading=Reading(nodata="none")) as raster:
        for size, value in ((256, 500), (200, 500), (128, 0), (100, 0), (64, 0), (10, 0)):
            assert (raster.read(size=(size, size)).values == value).all(), size
        for size in ((200, 10), (10, 200)):  # large enough on both sides
            assert (raster.read(size=size).values == 500).all(), size
    with Raster(path) as raster:
        full, smaller = raster.read().values, raster.read(size=(64, 64)).values
    assert np.abs(smaller - full.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))).max() < 2


@pytest.mark.parametrize("window, size", [((0, 0, 41, 10), None), ((-1, 0, 5, 5), None), ((0, 0, 5, 5), (6, 5))])
def test_a_window_outside_or_enlarged_is_refused(tmp_path, window, size):
    with Raster(write(tmp_path / "a.tif", scene("float", side=40))) as raster:
        with pytest.raises(BTCChatError, match="40 x 40 pixels has no window"):
            raster.read(window, size)


def test_frames_of_large_rasters_are_smaller_and_know_their_full_size(tmp_path, monkeypatch):
    monkeypatch.setattr("btcchat.media.frames.MAX_SIDE", 20)
    path = write(tmp_path / "a.tif", scene("reflectance", side=64))
    frame = load_frames("image", path)[0]
    assert frame.size == (21, 21) and frame.info["full_size"] == (64, 64)
    assert load_image(path).size == (64, 64)
    assert load_image(path, max_side=33).size == (64, 64)  # less than twice as many
    assert max(load_image(path, max_pixels=1000).size) == 64  # the default MAX_SIDE still applies


SPARSE = """
import resource, sys
import rasterio
from btcchat.media import load_frames

rasterio.open(sys.argv[1], "w", driver="GTiff", width=30_000, height=30_000, count=1, dtype="uint8", tiled=True,
              sparse_ok=True, compress="deflate").close()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
frames = load_frames("image", sys.argv[1])
print(frames[0].width, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_scene_of_30000_pixels_a_side_needs_only_megabytes(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", SPARSE, str(tmp_path / "a.tif")]
    width, kilobytes = map(int, subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())
    assert width == 2142 and kilobytes < 200_000


def test_a_window_of_a_rotated_raster_has_the_right_transform(tmp_path):
    rotated = rasterio.Affine(3, 4, 5e5, 4, -3, 4e6)  # rotated, so that rows move east too
    with Raster(write(tmp_path / "a.tif", scene("float", side=40), transform=rotated)) as raster:
        window = raster.read((8, 6, 20, 10), (10, 2))
    assert window.transform == rotated @ rasterio.Affine.translation(8, 6) @ rasterio.Affine.scale(2, 5)


def test_transparent_colours_of_a_palette_are_hidden(tmp_path):
    path = write(tmp_path / "a.tif", np.array([[0, 1]], np.uint8)[..., None], photometric="palette")
    with Raster(path) as raster:
        raster.channels.palette[1, 3] = 0
        assert raster.read().valid[0, :, 0].tolist() == [True, False]


@pytest.mark.parametrize("shape", [(1, 64), (64, 1)])
def test_a_raster_of_one_row_or_column_keeps_it(tmp_path, shape):
    path = write(tmp_path / "a.tif", np.arange(64, dtype=np.uint8).reshape(*shape, 1))
    frame = load_image(path, max_side=8)
    assert sorted(frame.size) == [1, 8] and np.asarray(frame)[..., 0].ravel().tolist() == list(range(4, 64, 8))


def test_the_pixels_of_a_read_are_limited(tmp_path, monkeypatch):
    with Raster(write(tmp_path / "a.tif", scene("float", side=40))) as raster:
        monkeypatch.setattr("btcchat.media.raster.raster.MAX_THROUGH", 1600)
        assert raster.read(size=(4, 4)).values.shape == (4, 4, 3)
        monkeypatch.setattr("btcchat.media.raster.raster.MAX_THROUGH", 1599)
        with pytest.raises(BTCChatError, match="has 40 x 40 pixels to read, the limit is 1,599"):
            raster.read(size=(4, 4))
