import logging

import numpy as np
import pytest
import rasterio

from btcchat.errors import BTCChatError
from btcchat.media import Reading, load_frames, load_image
from btcchat.media.reading import DEFAULT
from btcchat.media.source import Embedded
from tests.media.scenes import SCENES, cover, scene, write


def pixels(frames) -> list[np.ndarray]:
    return [np.asarray(frame).astype(int) for frame in frames]


@pytest.fixture
def pair(tmp_path):
    """(before, after) -> their frames, read from files as a pair."""

    def read(before, after, *, reading=DEFAULT, **profile):
        paths = [write(tmp_path / f"{name}.tif", v, **profile) for name, v in (("before", before), ("after", after))]
        return pixels(load_frames("pair", paths, reading=reading))

    return read


@pytest.mark.parametrize("disturbed", [0, 1])
@pytest.mark.parametrize("what", ["cloud", "shadow", "fill"])
@pytest.mark.parametrize("kind", SCENES)
def test_a_disturbed_tenth_of_one_date_leaves_the_rest_of_both_unchanged(pair, kind, what, disturbed):
    before, clear = scene(kind, seed=1), scene(kind, seed=1)
    clear[30:40, 50:60] = before[50:60, 5:15]  # something has changed
    dates = [before, clear]
    dates[disturbed], place = cover(dates[disturbed], kind, what, share=0.1)
    alone, (first, second) = pair(before, clear), pair(*dates)
    same = ~place & (before == clear).all(axis=2)
    assert np.abs(first - second)[same].max() <= 1
    for date, undisturbed in zip((first, second), alone, strict=True):
        assert date[same].std() >= 0.8 * undisturbed[same].std()
    if what == "fill":
        assert ((first, second)[disturbed][place] == 0).all()


def test_a_series_with_a_cloud_in_one_date_keeps_its_contrast(tmp_path):
    dates = [scene("reflectance", seed=2)] * 3
    clear = pixels(load_frames("series", [write(tmp_path / f"{n}.tif", date) for n, date in enumerate(dates)]))
    dates[1], place = cover(dates[1], "reflectance", "cloud", share=0.1)
    cloudy = pixels(load_frames("series", [write(tmp_path / f"{n}.tif", date) for n, date in enumerate(dates)]))
    assert (cloudy[0][~place] == cloudy[1][~place]).all() and (cloudy[0] == cloudy[2]).all()
    assert cloudy[0].std() >= 0.8 * clear[0].std()


def test_a_date_that_is_brighter_everywhere_is_not_white(pair):
    before = scene("reflectance", seed=3)
    _, after = pair(before, (before * 1.8).astype(before.dtype))
    assert (after == 255).mean() < 0.25


def test_dates_of_different_sensors_give_a_warning_with_the_way_out(pair, caplog):
    before = scene("reflectance", seed=4)
    pair(before, before * 3)
    assert "before.tif" in caplog.text and "after.tif" in caplog.text and "--stretch per-date" in caplog.text
    caplog.clear()
    first, second = pair(before, before * 3, reading=Reading(stretch="per-date"))
    assert np.abs(first - second).max() <= 1 and not caplog.records
    pair(before, (before * 1.8).astype(before.dtype))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_decibels_that_do_not_overlap_give_a_warning(pair, caplog):
    before = np.linspace(-20, -12, 4800, dtype=np.float32).reshape(40, 40, 3)
    pair(before, before - 1)
    assert not caplog.records
    pair(before, before - 20)
    assert "--stretch per-date" in caplog.text


def test_values_that_differ_stay_different_in_a_raster_of_nearly_one_value(pair):
    dark = np.zeros((60, 60, 1), np.uint16)
    lit, more = dark.copy(), dark.copy()
    lit[:6, :10], more[:12, :18] = 800, 800  # 1.7 and 6 %
    for before, after in ((dark, lit), (lit, more), (more, dark)):
        for date, levels in zip((before, after), pair(before, after), strict=True):
            assert (levels == np.where(date, 255, 0)).all()


def test_only_a_constant_raster_is_mid_grey(pair):
    flat = np.full((20, 20, 1), 700, np.uint16)
    assert {*np.unique(pair(flat, flat))} == {127}
    assert [{*np.unique(date)} for date in pair(flat, flat + 1)] == [{0}, {255}]


def test_large_whole_numbers_that_are_close_stay_apart(pair):
    close = np.full((20, 20, 1), 4_000_000_000, np.uint32)
    close[:10] += 3
    before, _ = pair(close, close)
    assert (before[:10] == 255).all() and (before[10:] == 0).all()


@pytest.mark.parametrize(
    "stretch, dtype, values, levels",
    [
        ((1000.0, 3000.0), np.uint16, [0, 1000, 2000, 3000, 9000], [0, 0, 128, 255, 255]),
        ((-25.0, 0.0), np.float32, [-30, -25, -12.5, 0, 5], [0, 0, 128, 255, 255]),
        ("none", np.uint16, [0, 257, 32768, 65535], [0, 1, 128, 255]),
        ("none", np.float32, [-1, 0, 0.5, 1, 2], [0, 0, 128, 255, 255]),
        ("none", np.int8, [-128, 0, 127], [0, 128, 255]),
    ],
)
def test_a_stretch_can_be_a_given_range_or_the_whole_range(tmp_path, stretch, dtype, values, levels):
    path = write(tmp_path / "a.tif", np.array(values, dtype)[None, :, None])
    shown = load_image(path, reading=Reading(stretch=stretch))
    assert np.asarray(shown)[0, :, 0].tolist() == levels
    assert shown.info["range"] == (stretch if stretch != "none" else shown.info["range"])


def test_8_bit_images_are_not_stretched_whatever_the_stretch(tmp_path):
    dark = np.full((10, 10, 3), 3, np.uint8)
    for stretch in ("shared", "per-date", "none", (0.0, 10.0)):
        assert (np.asarray(load_image(write(tmp_path / "a.tif", dark), reading=Reading(stretch=stretch))) == 3).all()


def test_dates_of_8_and_16_bits_are_read_differently_with_a_warning(pair, tmp_path, caplog):
    deep, shallow = scene("reflectance", seed=5), np.full((10, 10, 3), 90, np.uint8)
    paths = [write(tmp_path / "deep.tif", deep), write(tmp_path / "shallow.tif", shallow)]
    first, second = pixels(load_frames("pair", paths))
    assert (second == 90).all() and (first == np.asarray(load_image(paths[0]))).all()
    assert "deep.tif: has more than 8 bits" in caplog.text


def test_a_date_without_a_valid_pixel_is_named(pair):
    with pytest.raises(BTCChatError, match="after.tif' has no valid pixel"):
        pair(scene("reflectance"), np.zeros((8, 8, 1), np.uint16), nodata=0)


def test_embedded_images_are_stretched_like_files(tmp_path):
    paths = [write(tmp_path / f"{n}.tif", scene("reflectance", seed=n)) for n in (1, 2)]
    embedded = [Embedded(path.name, path.read_bytes()) for path in paths]
    for inside, outside in zip(load_frames("pair", embedded), load_frames("pair", paths), strict=True):
        assert (np.asarray(inside) == np.asarray(outside)).all()


def test_the_cases_of_pairs_are_right(shared):
    cloud, lit = (shared / "cases" / name for name in ("01-pair-stretch-cloud", "02-mostly-one-value"))
    with rasterio.open(cloud / "before.tif") as a, rasterio.open(cloud / "after.tif") as b:
        same = (a.read() == b.read()).all(axis=0)
    before, after = pixels(load_frames("pair", [cloud / "before.tif", cloud / "after.tif"]))
    assert np.abs(before - after)[same].max() <= 1 and before.std() > 60
    for names in (("zero", "lit_1.7"), ("lit_1.7", "lit_6")):
        for name, date in zip(names, load_frames("pair", [lit / f"{name}.tif" for name in names]), strict=True):
            with rasterio.open(lit / f"{name}.tif") as file:
                assert (np.asarray(date)[..., 0] == np.where(file.read(1), 255, 0)).all()
