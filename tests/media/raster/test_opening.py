"""Only the file itself is read, whatever files it refers to, and only within limits."""

import logging
import os
import shutil
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
import rasterio

from btcchat.errors import BTCChatError
from btcchat.media import Raster, load_image
from btcchat.media.source import Embedded
from tests.media.scenes import scene, write

VRT = """<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename>{}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""


def directories(count: int, side: int = 16, overview: int = 8, bands: int = 1) -> bytes:
    """A TIFF of an image and count - 1 overviews of it that have no pixels of their own."""
    out, place = b"II*\0" + struct.pack("<I", 8), 8
    for number in range(count):
        size = overview if number else side
        tags = [(254, 4, 1, min(number, 1)), (256, 4, 1, size), (257, 4, 1, size), (258, 3, 1, 8), (259, 3, 1, 1),
                (262, 3, 1, 1), (273, 4, 1, 8), (277, 4, 1, bands), (278, 4, 1, size),
                (279, 4, 1, min(size * size, 2**32 - 1))]  # fmt: skip
        place += 2 + 12 * len(tags) + 4
        out += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        out += struct.pack("<I", place if number < count - 1 else 0)
    return out + b"\0" * 1024


@pytest.fixture
def secret(tmp_path):
    """Another file, which is white."""
    return write(tmp_path / "secret.tif", np.full((64, 64, 1), 255, np.uint8))


@pytest.mark.parametrize("name", ["a.tif", "a.jp2", "a.png", "a.vrt"])
def test_a_vrt_is_never_read_whatever_its_name(tmp_path, secret, name):
    (tmp_path / name).write_text(VRT.format(secret))
    for source in (tmp_path / name, Embedded(name, (tmp_path / name).read_bytes())):
        with pytest.raises(BTCChatError, match="is not an image that can be read"):
            load_image(source)
        with pytest.raises(BTCChatError, match="is not a TIFF or JPEG 2000 .*; convert it: gdal_translate"):
            Raster(source)


@pytest.mark.parametrize("suffix", [".ovr", ".msk", ".OVR", ".MSK"])
def test_a_vrt_beside_a_file_is_not_read(tmp_path, secret, suffix, caplog):
    path = write(tmp_path / "a.tif", np.zeros((64, 64, 1), np.uint8))
    (tmp_path / f"a.tif{suffix}").write_text(VRT.format(secret))
    with caplog.at_level(logging.INFO, "btcchat"):
        assert not np.asarray(load_image(path, max_side=16)).any()
    assert f"a.tif{suffix} is not a TIFF; files next to the image are not read" in caplog.text


def test_overviews_in_another_file_are_not_followed(tmp_path, secret):
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", width=64, height=64, count=1, dtype="uint8") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(secret))
    with pytest.raises(BTCChatError, match="names another file for its overviews"):
        load_image(path, max_side=16)


def test_embedded_files_have_no_sidecar_files(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", np.full((64, 64, 1), 90, np.uint8))
    with rasterio.open(path, "r+") as file, rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        file.write_mask(np.zeros((64, 64), bool))
    assert not np.asarray(load_image(path)).any()
    assert np.asarray(load_image(Embedded(str(path), path.read_bytes()))).all()


@pytest.mark.parametrize(
    "path, words",
    [
        ("/vsicurl/http://localhost/a.tif", "a path of GDAL's own file systems"),
        ("/vsizip/a.zip/a.tif", "a path of GDAL's own file systems"),
        ("https://localhost/a.tif", "is an address"),
        ("GTIFF_DIR:1:a.tif", "not found"),
        ("NETCDF:a.nc:band", "not found"),
    ],
)
def test_paths_that_are_not_local_files_are_refused(path, words):
    for read in (load_image, Raster):
        with pytest.raises(BTCChatError, match=words):
            read(path)


def test_a_name_that_looks_like_a_prefix_of_gdal_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(write(tmp_path / "a.tif", np.full((4, 4, 1), 7, np.uint8)), tmp_path / "GTIFF_DIR:1:a.tif")
    assert np.asarray(load_image("GTIFF_DIR:1:a.tif")).max() == 7


def test_a_virtual_path_is_opened_on_request(tmp_path):
    path = write(tmp_path / "a.tif", np.full((4, 4, 1), 7, np.uint8))
    with Raster(f"/vsisubfile/0_{path.stat().st_size},{path}", virtual=True) as raster:
        assert (raster.read().values == 7).all()


@pytest.mark.parametrize(
    "data, words",
    [
        (directories(1, bands=10**9), "truncated or damaged: .*SamplesPerPixel"),
        (directories(1, bands=65535), "65,535 bands, at most 4,096"),
        (directories(1, side=2**31 - 1), "blocks of 2147483647 x 1 pixels = 2,147,483,647 bytes, the limit"),
        (directories(1, side=200_000), "200000 x 200000 pixels to read, the limit is 2,147,483,648"),
        (directories(6000), "more than 4,096 pages or overviews"),
        (directories(1)[:-1028] + struct.pack("<I", 8), "or they form a loop"),
    ],
    ids=["bands", "many bands", "a large block", "many pixels", "many overviews", "a loop"],
)
def test_huge_sizes_in_a_small_file_are_refused(tmp_path, data, words):
    (tmp_path / "a.tif").write_bytes(data)
    for source in (tmp_path / "a.tif", Embedded("a.tif", data)):
        with pytest.raises(BTCChatError, match=words) as error:
            load_image(source, max_side=512)
        assert len(str(error.value)) <= 300 + len(str(tmp_path)) and "\n" not in str(error.value)


def test_an_overview_that_is_larger_than_its_image_is_not_read(tmp_path):
    """A bomb: to read less, GDAL would decode more."""
    data = directories(2, side=64, overview=2**20) + b"\0" * 64 * 64
    (tmp_path / "a.tif").write_bytes(data)
    assert load_image(tmp_path / "a.tif", max_side=16).size == (16, 16)


def test_gdal_prints_nothing(tmp_path):
    """A truncated file and one with an odd tag, about both of which GDAL would warn."""
    path = write(tmp_path / "a.tif", scene("reflectance"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "odd.tif").write_bytes(directories(1, bands=10**9))
    code = (
        "import sys\nfrom btcchat.errors import BTCChatError\nfrom btcchat.media import load_image\n"
        "for path in sys.argv[1:]:\n try:\n  load_image(path)\n except BTCChatError: print('one line')\n"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "odd.tif")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("one line\n" * 2, "")


def test_a_file_without_georeference_gives_no_warning(shared):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_image(shared / "cases/07-single-band-planar/rgb_planar_u16.tif")


def test_gdal_caches_its_blocks_while_it_reads(tmp_path):
    """rasterio expects the size in bytes, not in MiB as GDAL's documentation says."""
    path = write(tmp_path / "a.tif", scene("counts"))
    with Raster(path) as raster, raster._opening.reading():
        assert 2**20 <= int(rasterio.env.get_gdal_config("GDAL_CACHEMAX")) <= 2**28


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_path_that_is_not_utf8_is_an_error_that_names_the_part(tmp_path, monkeypatch):
    """GDAL takes no other paths; the image is not damaged."""
    bad = os.fsdecode(b"k\xf6ln")
    (tmp_path / bad).mkdir()
    write(tmp_path / "a.tif", np.zeros((64, 64, 1), np.uint8)).rename(tmp_path / bad / "a.tif")
    monkeypatch.chdir(tmp_path / bad)
    with pytest.raises(BTCChatError) as caught:
        load_image("a.tif")
    fault = r"image 'a.tif': 'k\udcf6ln' in its path is not UTF-8; rename it, or give another path"
    assert str(caught.value) == fault
