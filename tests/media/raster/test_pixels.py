"""Every kind of raster is shown with the right pixels."""

import logging

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp

from btcchat.errors import BTCChatError
from btcchat.media import Reading, load_image
from btcchat.media.source import Embedded
from tests.media.scenes import scene, write

COLOURS = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]


def shown(path, **reading) -> np.ndarray:
    return np.asarray(load_image(path, reading=Reading(**reading))).astype(int)


def ramp(low: float, high: float, dtype) -> np.ndarray:
    """(20, 50, 1) values spread evenly."""
    return np.linspace(low, high, 1000).reshape(20, 50, 1).astype(dtype)


def expected(values: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """(H, W, 3): the plain stretch between percentiles 2 and 98."""
    values = values.astype(np.float64)
    valid = np.ones(values.shape, bool) if valid is None else valid
    low, high = np.percentile(values[valid], (2, 98))
    levels = np.where(valid, np.clip((values - low) / (high - low), 0, 1) * 255, 0)
    return np.broadcast_to(levels, (*levels.shape[:2], 3))


@pytest.mark.parametrize(
    "low, high, dtype",
    [
        (-100, 100, np.int8),
        (0, 4e9, np.uint32),
        (-2e9, 2e9, np.int32),
        (-500, 500, np.int16),
        (0, 60000, np.uint16),
        (0, 1e12, np.int64),
        (-1, 1, np.float32),
        (1e-300, 1e-299, np.float64),
    ],
)
@pytest.mark.parametrize("bands", [1, 3])
def test_every_data_type_keeps_the_order_of_its_values(tmp_path, low, high, dtype, bands):
    values = np.repeat(ramp(low, high, dtype), bands, axis=2)
    assert np.abs(shown(write(tmp_path / "a.tif", values)) - expected(values)).max() <= 1


def test_complex_values_are_refused_with_a_way_out(tmp_path):
    path = write(tmp_path / "a.tif", np.ones((4, 4, 1), np.complex64))
    with pytest.raises(BTCChatError, match="complex values; write their amplitude"):
        load_image(path)


@pytest.mark.parametrize(
    "layout",
    [
        {"interleave": "band"},
        {"interleave": "pixel"},
        {"tiled": True, "blockxsize": 16, "blockysize": 16},
        {"compress": "deflate", "predictor": 2},
        {"compress": "zstd"},
        {"compress": "lzw"},
        {"compress": "lerc"},
        {"BIGTIFF": "YES"},
        {"driver": "COG"},
        {"ENDIANNESS": "BIG"},
    ],
    ids=str,
)
def test_the_layout_of_a_file_does_not_matter(tmp_path, layout):
    values = scene("reflectance", side=48)
    assert np.abs(shown(write(tmp_path / "a.tif", values, **layout)) - expected(values)).max() <= 1


def test_floating_point_predictors_and_16_bits_are_read(tmp_path):
    values = scene("float", side=48)
    for layout in ({"compress": "deflate", "predictor": 3}, {"nbits": 16}):
        assert np.abs(shown(write(tmp_path / "a.tif", values, **layout)) - expected(values)).max() <= 1


def test_white_is_zero_at_any_depth(tmp_path):
    for dtype in (np.uint8, np.uint16):
        values = ramp(0, np.iinfo(dtype).max, dtype)
        rgb = shown(write(tmp_path / "a.tif", values, photometric="miniswhite"), stretch="none")
        assert np.abs(rgb[..., :1] - (255 - values.astype(float) * 255 / np.iinfo(dtype).max)).max() <= 1


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_span_black_to_white(tmp_path, bits):
    values = (np.arange(256).reshape(16, 16, 1) % 2**bits).astype(np.uint8)
    assert (shown(write(tmp_path / "a.tif", values, nbits=bits)) == values * (255 // (2**bits - 1))).all()


@pytest.mark.parametrize("top", [255, 65535])
def test_a_palette_of_8_or_16_bits_is_looked_up(tmp_path, top):
    """Its table has 16 bits; some programs fill it up to 255 only."""
    image = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4), "P")
    colours = [(17 * n, 255 - 17 * n, 90) for n in range(16)]
    image.putpalette([value for colour in colours for value in colour])
    image.save(tmp_path / "a.tif")
    if top == 255:
        data = (tmp_path / "a.tif").read_bytes()
        entries = [colours[n][band] if n < 16 else 0 for band in range(3) for n in range(256)]
        wide, narrow = (np.array(entries, "<u2") * factor for factor in (256, 1))
        found = [form for form in (wide, wide + narrow) if form.tobytes() in data]
        (tmp_path / "a.tif").write_bytes(data.replace(found[0].tobytes(), narrow.tobytes()))
    assert np.abs(shown(tmp_path / "a.tif").reshape(16, 3) - colours).max() <= 1


def test_scale_and_offset_are_applied(tmp_path):
    values = ramp(0, 10000, np.uint16)
    path = write(tmp_path / "a.tif", values, scales=[0.0001], offsets=[-0.1])
    assert np.abs(shown(path, stretch=(0.0, 0.5))[..., :1] - np.clip((values * 1e-4 - 0.1) * 510, 0, 255)).max() <= 1


# -- no data ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hole() -> np.ndarray:
    y, x = np.mgrid[:96, :96]
    return x + y < 80


@pytest.mark.parametrize(
    "dtype, nodata", [(np.uint8, 0), (np.uint8, 255), (np.uint16, 65535), (np.int16, -1), (np.float32, np.nan),
                      (np.float32, -3.4028234663852886e38), (np.uint32, 4294967295)]
)  # fmt: skip
def test_tagged_no_data_is_black_and_does_not_count(tmp_path, hole, dtype, nodata):
    values = np.clip(scene("reflectance") / 15, 1, 250).astype(dtype)
    whole = shown(write(tmp_path / "whole.tif", values))
    values[hole] = nodata
    rgb = shown(write(tmp_path / "a.tif", values, nodata=nodata))
    assert (rgb[hole] == 0).all()
    assert np.abs(rgb - whole)[~hole].mean() < 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("sidecar", [False, True])
def test_what_masks_inside_or_beside_a_file_hide_is_black(tmp_path, hole, dtype, sidecar):
    values = (scene("reflectance") / (15 if dtype == np.uint8 else 1)).astype(dtype)
    whole = shown(write(tmp_path / "whole.tif", values))
    values[hole] = np.iinfo(dtype).max - 5
    if sidecar:
        path = write(tmp_path / "a.tif", values)
        with rasterio.open(path, "r+") as file:
            with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
                file.write_mask(~hole)
        assert (tmp_path / "a.tif.msk").exists()
    else:
        path = write(tmp_path / "a.tif", values, mask=~hole)
    rgb = shown(path)
    assert (rgb[hole] == 0).all() and np.abs(rgb - whole)[~hole].mean() < 4


def test_a_colour_of_which_one_band_has_the_no_data_value_is_kept(tmp_path):
    red = np.full((8, 8, 3), (255, 0, 0), np.uint8)
    for nodata in (0, 255):
        assert (shown(write(tmp_path / "a.tif", red, nodata=nodata)) == (255, 0, 0)).all()


@pytest.mark.parametrize(
    "kind, fill",
    [("float", -9999), ("float", 0), ("float", -3.4e38), ("float", 3.4028234663852886e38), ("reflectance", 0),
     ("reflectance", 65535), ("offset", 0), ("counts", -32768), ("counts", -9999), ("counts", 32767)],
)  # fmt: skip
def test_a_fill_value_without_a_tag_is_recognised_and_logged_once(tmp_path, hole, caplog, kind, fill):
    values = scene(kind)
    whole = shown(write(tmp_path / "whole.tif", values))
    values[hole] = fill
    with caplog.at_level(logging.INFO, "btcchat"):
        rgb = shown(write(tmp_path / "a.tif", values))
        load_image(write(tmp_path / "b.tif", values))
    assert (rgb[hole] == 0).all() and np.abs(rgb - whole)[~hole].mean() < 4
    messages = [record.getMessage() for record in caplog.records if "no data" in record.getMessage()]
    assert len(messages) == 1 and "a.tif: " in messages[0] and "--nodata" in messages[0]


def test_measured_values_are_not_a_fill(tmp_path, caplog):
    zeros = ramp(-300, 2000, np.int16).clip(0).astype(np.uint16)
    classes = np.repeat(np.arange(5, dtype=np.uint16) * 1000, 80).reshape(20, 20, 1)
    saturated = ramp(200, 65535, np.uint16)
    saturated[:2] = 65535
    with caplog.at_level(logging.INFO, "btcchat"):
        for number, values in enumerate((zeros, classes, saturated)):
            load_image(write(tmp_path / f"{number}.tif", values))
    assert "no data" not in caplog.text


def test_nodata_names_the_value_or_none(tmp_path, hole):
    values = scene("reflectance")
    values[hole] = 1234
    path = write(tmp_path / "a.tif", values, nodata=9)
    assert (shown(path, nodata=1234.0)[hole] == 0).all()
    values[hole] = 60000
    path = write(tmp_path / "a.tif", values, nodata=60000)
    assert (shown(path)[hole] == 0).all()
    assert (shown(path, nodata="none")[hole] == 255).all()


# -- bands -----------------------------------------------------------------------------------------------------------


def test_a_fourth_band_that_gdal_marks_as_alpha_is_not_a_mask(tmp_path, caplog):
    values = (scene("reflectance") / 13).astype(np.uint8)
    four = np.concatenate([values, values[..., :1]], axis=2)
    with caplog.at_level(logging.INFO, "btcchat"):
        assert (shown(write(tmp_path / "a.tif", four)) == values).all()
    assert len(caplog.records) == 1 and "band 4 is marked as alpha but is not a mask" in caplog.text


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_that_is_a_mask_is_black_where_it_is_0(tmp_path, hole, dtype):
    values = (scene("reflectance") / (13 if dtype == np.uint8 else 1)).astype(dtype)
    alpha = np.where(hole, 0, np.iinfo(dtype).max).astype(dtype)[..., None]
    path = write(tmp_path / "a.tif", np.concatenate([values, alpha], axis=2), colorinterp=[*COLOURS, ColorInterp.alpha])
    rgb = shown(path)
    assert (rgb[hole] == 0).all() and rgb[~hole].std() > 30
    if dtype == np.uint8:
        assert (rgb[~hole] == values[~hole]).all()


@pytest.mark.parametrize(
    "count, facts, chosen",
    [
        (3, {}, (1, 2, 3)),
        (5, {}, (1, 2, 3)),
        (1, {}, (1,)),
        (2, {}, (1,)),
        (3, {"colorinterp": COLOURS[::-1]}, (3, 2, 1)),
        (4, {"descriptions": ["blue", "Green", "RED", "nir"]}, (3, 2, 1)),
        (4, {"descriptions": ["B02", "B03", "B04", "B08"]}, (3, 2, 1)),
        (13, {"descriptions": [f"B{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, "8A", 9, 10, 11, 12)]}, (4, 3, 2)),
        (7, {"descriptions": [f"SR_B{n}" for n in range(1, 8)]}, (4, 3, 2)),
        (6, {"descriptions": [f"SR_B{n}" for n in (1, 2, 3, 4, 5, 7)]}, (3, 2, 1)),
        (3, {"descriptions": ["B4, central wavelength 665 nm", "B3, central 560", "B2, central 490"]}, (1, 2, 3)),
        (3, {"descriptions": ["B8A", "B8", "B4"]}, (1, 2, 3)),
    ],
    ids=str,
)
def test_bands_are_chosen_by_marks_and_names_or_are_the_first(tmp_path, count, facts, chosen):
    values = np.arange(count, dtype=np.uint16) * 100 + ramp(0, 50, np.uint16)
    assert load_image(write(tmp_path / "a.tif", values, **facts)).info["bands"] == chosen


def test_requested_bands_are_read(tmp_path):
    values = np.full((4, 4, 5), (10, 20, 30, 40, 50), np.uint8)
    path = write(tmp_path / "a.tif", values, photometric="minisblack")
    assert (shown(path, bands=(5, 1, 3)) == (50, 10, 30)).all()
    assert (shown(path, bands=(4,)) == 40).all()
    with pytest.raises(BTCChatError, match="has 5 bands, but --bands is 6,1,1"):
        shown(path, bands=(6, 1, 1))


def test_notes_on_bands_are_logged_once(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "btcchat.media.raster"):
        for name in ("a.tif", "b.tif"):
            load_image(write(tmp_path / name, scene("reflectance", side=8)))
    assert [record.name for record in caplog.records].count("btcchat.media.raster") == 1


# -- other formats ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jp2", "j2k"])
def test_jpeg_2000_of_16_bits_is_stretched(tmp_path, suffix):
    values = scene("reflectance")
    path = write(tmp_path / f"a.{suffix}", values, driver="JP2OpenJPEG", REVERSIBLE="YES", QUALITY=100, crs=None)
    assert np.abs(shown(path) - expected(values)).max() <= 2


@pytest.mark.parametrize("bits", [9, 12, 16])
@pytest.mark.parametrize("bands", [1, 3])
def test_ppm_of_more_than_8_bits_is_stretched(tmp_path, bits, bands):
    values = np.repeat(ramp(0, 2**bits - 1, np.uint16), bands, axis=2)
    head = f"P{6 if bands == 3 else 5}\n# a comment\n50 20\n{2**bits - 1}\n".encode()
    (tmp_path / "a.ppm").write_bytes(head + values.astype(">u2").tobytes())
    assert np.abs(shown(tmp_path / "a.ppm") - expected(values)).max() <= 1


@pytest.mark.parametrize("bits", [10, 16])
@pytest.mark.parametrize("bands", [1, 3])
def test_ppm_written_as_text_is_read_as_a_binary_one(tmp_path, bits, bands):
    values = np.repeat(ramp(0, 2**bits - 1, np.uint16), bands, axis=2)
    size, most = b"50 20", b"%d" % (2**bits - 1)
    (tmp_path / "binary.ppm").write_bytes(
        (b"P6 " if bands == 3 else b"P5 ") + size + b"\n" + most + b"\n" + values.astype(">u2").tobytes()
    )
    text = (b"P3\n" if bands == 3 else b"P2\n") + b"# 1 2\n" + size + b"\n" + most + b" # of it\n"
    text += b"\n".join(b"%d" % value for value in values.flat)
    (tmp_path / "text.ppm").write_bytes(text)
    for reading in ({}, {"stretch": "none"}, {"bands": (1,), "nodata": 0.0}):
        assert (shown(tmp_path / "text.ppm", **reading) == shown(tmp_path / "binary.ppm", **reading)).all()
    inside = Embedded("text.ppm", text)
    assert (shown(inside) == shown(tmp_path / "binary.ppm")).all()


@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_a_ppm_with_a_long_comment_is_not_taken_for_8_bits(tmp_path, kind):
    values = np.repeat(ramp(0, 1023, np.uint16), 3 if kind in ("P3", "P6") else 1, axis=2)
    head = f"{kind}\n#{'x' * 2000}\n50 20\n1023\n".encode()
    pixels = values.astype(">u2").tobytes() if kind in ("P5", "P6") else " ".join(map(str, values.flat)).encode()
    (tmp_path / "a.ppm").write_bytes(head + pixels)
    try:
        levels = shown(tmp_path / "a.ppm")
    except BTCChatError as error:  # GDAL expects the whole header of a binary one within 1 KiB
        assert kind in ("P5", "P6") and "damaged" in str(error)
    else:
        assert np.abs(levels - expected(values)).max() <= 1
    if kind in ("P2", "P3"):
        (tmp_path / "a.ppm").write_bytes(head.replace(b"1023", b"255") + " ".join(["7"] * values.size).encode())
        assert (shown(tmp_path / "a.ppm") == 7).all()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("P3 2 1 1023\n1 2 3 4 5", "truncated or damaged: 5 values, 2 x 1 pixels need 6"),
        ("P2 2 1 1023\n1 two", "truncated or damaged: not everything in it is a number"),
        ("P2 2 1 1023\n1 \xff", "truncated or damaged: not everything in it is a number"),
        ("P2 2 1 1023\n1 1024", "truncated or damaged: values from 1 to 1024, expected 0 to 1023"),
        ("P2 2 1 1023\n1 -1", "values from -1 to 1, expected 0 to 1023"),
        ("P2 2 1 1023\n1 99999999999999999999", "expected 0 to 1023"),
        ("P2 0 1 1023\n1", "0 x 1 pixels"),
        ("P2 99999999 99999999 1023\n1", "1 values, 99999999 x 99999999 pixels need 9,999,999,800,000,001"),
        ("P2 2 1 1023\n" + "1 " * 2**25, "text of more than 67,108,864 bytes; write it in binary"),
    ],
    ids=range(9),
)
def test_an_error_in_a_ppm_written_as_text_is_one_line(tmp_path, text, fault):
    (tmp_path / "a.ppm").write_text(text, encoding="latin-1")
    with pytest.raises(BTCChatError) as error:
        load_image(tmp_path / "a.ppm")
    assert fault in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("nodata", "hidden"), [(None, [2]), ("none", []), (1.0, [1])])
def test_no_data_in_a_palette_is_black(tmp_path, nodata, hidden):
    colours = {0: (10, 20, 30), 1: (40, 50, 60), 2: (70, 80, 90), 3: (1, 2, 3)}
    values = np.array([[0, 1], [2, 3]], np.uint8)[..., None]
    path = write(tmp_path / "a.tif", values, nodata=2, photometric="palette")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, colours)
    expected = [[0, 0, 0] if value in hidden else list(colours[value]) for value in range(4)]
    assert shown(path, nodata=nodata).reshape(-1, 3).tolist() == expected


def test_bmp_of_5_6_5_bits_is_read(tmp_path):
    import struct

    pixels = np.array([[0xF800, 0x07E0], [0x001F, 0xFFFF]], "<u2")  # red, green / blue, white; bottom row first
    head = struct.pack("<2sIHHI", b"BM", 74, 0, 0, 66)
    info = struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0) + struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    (tmp_path / "a.bmp").write_bytes(head + info + pixels.tobytes())
    assert shown(tmp_path / "a.bmp").tolist() == [[[0, 0, 255], [255] * 3], [[255, 0, 0], [0, 255, 0]]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_exif_rotation_is_applied_at_any_depth(tmp_path, dtype):
    from tests.media.test_images import write_tiff

    values = np.zeros((24, 16, 1), dtype)  # stored rotated: upright, it is 24 wide and bright at the top
    values[:, :8] = 200
    path = write_tiff(tmp_path / "a.tif", values, photometric=1, orientation=6)
    upright = shown(path)
    assert upright.shape == (16, 24, 3)
    assert upright[:8].min() >= 200 and upright[8:].max() == 0


def test_the_cases_of_single_files_are_right(shared):
    cases = shared / "cases"
    for name in ("int8", "uint32"):
        with rasterio.open(cases / "04-int8-uint32" / f"{name}.tif") as file:
            values = file.read().transpose(1, 2, 0)
        assert np.abs(shown(cases / "04-int8-uint32" / f"{name}.tif") - expected(values)).max() <= 1
    with rasterio.open(cases / "04-int8-uint32/uint32_nodata.tif") as file:
        empty = file.read(1) == 4294967295
    assert (shown(cases / "04-int8-uint32/uint32_nodata.tif")[empty] == 0).all()
    with rasterio.open(cases / "04-int8-uint32/uint16_miniswhite.tif") as file:
        inverted = 65535 - file.read().transpose(1, 2, 0)
    assert np.abs(shown(cases / "04-int8-uint32/uint16_miniswhite.tif") - expected(inverted)).max() <= 1
    with rasterio.open(cases / "05-nir-as-alpha/rgbnir.tif") as file:
        assert (shown(cases / "05-nir-as-alpha/rgbnir.tif") == file.read([1, 2, 3]).transpose(1, 2, 0)).all()
    y, x = np.mgrid[:96, :96]
    for path in sorted((cases / "06-nodata-8bit-and-internal-mask").glob("*.tif")):
        rgb = shown(path)
        assert (rgb[x + y < 80] == 0).all() and rgb[x + y >= 80].std() > 40, path.name
    planar = cases / "07-single-band-planar"
    assert (shown(planar / "one_band_u16.tif") == shown(planar / "same_default.tif")).all()
    with rasterio.open(planar / "rgb_planar_u16.tif") as file:
        assert np.abs(shown(planar / "rgb_planar_u16.tif") - expected(file.read().transpose(1, 2, 0))).max() <= 1
    assert shown(planar / "one_band_f32.tif").std() > 50
