import io
import logging
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from btcchat.errors import BTCChatError
from btcchat.media.frames import evenly, load_frames
from btcchat.media.images import load_image
from btcchat.media.reading import Reading
from btcchat.media.source import existing_file, natural_key

SIZE = (24, 16)  # width, height


@pytest.fixture
def scene() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def write_tiff(
    path, array, *, photometric, planar=1, extra=(), nodata=None, sample_format=1, deflate=False, orientation=None
):
    """A minimal little-endian TIFF with one strip (one per band, if planar is 2); array (H, W, bands)."""
    height, width, bands = array.shape
    bits = array.dtype.itemsize * 8
    strips = [array.tobytes()] if planar == 1 else [band.tobytes() for band in array.transpose(2, 0, 1)]
    if deflate:
        strips = [zlib.compress(strip) for strip in strips]
    data, sizes = b"".join(strips), [len(strip) for strip in strips]
    tags = [
        (256, "I", [width]), (257, "I", [height]), (258, "H", [bits] * bands), (259, "H", [8 if deflate else 1]),
        (262, "H", [photometric]), (273, "I", [8 + sum(sizes[:i]) for i in range(len(sizes))]), (277, "H", [bands]),
        (278, "I", [height]), (279, "I", sizes), (284, "H", [planar]),
    ]  # fmt: skip
    if orientation:
        tags.insert(6, (274, "H", [orientation]))
    if extra:
        tags.append((338, "H", list(extra)))
    tags.append((339, "H", [sample_format] * bands))
    if nodata is not None:
        tags.append((42113, "c", [bytes([c]) for c in str(nodata).encode() + b"\0"]))
    entries, values = b"", b""
    start = 8 + len(data) + 2 + 12 * len(tags) + 4
    for tag, kind, items in tags:
        packed = struct.pack(f"<{len(items)}{kind}", *items)
        place = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", start + len(values))
        values += packed if len(packed) > 4 else b""
        entries += struct.pack("<HHI", tag, {"c": 2, "H": 3, "I": 4}[kind], len(items)) + place
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    path.write_bytes(head + data + struct.pack("<H", len(tags)) + entries + b"\0" * 4 + values)
    return path


def write_png16(path, array):
    """A 16-bit PNG of an array (H, W, 3 or 4)."""
    height, width, bands = array.shape

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[bands], 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


# -- kinds of image --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.ppm"])
def test_lossless_formats_are_read_back_unchanged(tmp_path, scene, name):
    scene.save(tmp_path / name)
    image = load_image(tmp_path / name)
    assert image.mode == "RGB"
    assert (pixels(image) == pixels(scene)).all()


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.jp2", "a.avif"])
def test_lossy_formats_are_read_back_nearly_unchanged(tmp_path, name):
    Image.new("RGB", SIZE, (200, 100, 50)).save(tmp_path / name)
    assert np.abs(pixels(load_image(tmp_path / name)) - (200, 100, 50)).max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LA", "La", "PA", "RGBA", "RGBa", "RGBX"])
def test_every_mode_of_pillow_becomes_rgb(mode):
    image = load_image(Image.new(mode, SIZE))
    assert (image.mode, image.size) == ("RGB", SIZE)


def test_grey_has_three_equal_bands(tmp_path, scene):
    scene.convert("L").save(tmp_path / "grey.png")
    rgb = pixels(load_image(tmp_path / "grey.png"))
    assert (rgb == pixels(scene.convert("L"))[..., None]).all()


def test_a_palette_is_looked_up(tmp_path):
    image = Image.new("P", SIZE, 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.save(tmp_path / "palette.png")
    assert (pixels(load_image(tmp_path / "palette.png")) == (10, 200, 30)).all()


def test_transparency_becomes_black(tmp_path):
    image = Image.new("RGBA", SIZE, (200, 100, 50, 255))
    image.paste((255, 255, 255, 0), (0, 0, 8, 16))
    image.paste((200, 100, 50, 128), (8, 0, 16, 16))
    image.save(tmp_path / "alpha.png")
    rgb = pixels(load_image(tmp_path / "alpha.png"))
    assert (rgb[:, :8] == 0).all()
    assert np.abs(rgb[:, 8:16] - (100, 50, 25)).max() <= 1
    assert (rgb[:, 16:] == (200, 100, 50)).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_exif_rotation_is_applied(tmp_path, suffix):
    upright = Image.new("RGB", SIZE, (0, 0, 0))
    upright.paste((255, 255, 255), (0, 0, 24, 8))  # bright at the top
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated; to be shown rotated by 90 degrees clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / f"turned.{suffix}", exif=exif)
    image = load_image(tmp_path / f"turned.{suffix}")
    assert image.size == SIZE
    assert pixels(image)[:6].min() > 240 and pixels(image)[10:].max() < 15


def test_an_image_in_memory_is_not_changed(scene):
    before = pixels(scene).copy()
    loaded = load_image(scene)
    loaded.putpixel((0, 0), (1, 2, 3))
    assert (pixels(scene) == before).all()


# -- more than 8 bits ------------------------------------------------------------------------------------------------


def ramp(low: int, high: int, dtype=np.uint16) -> np.ndarray:
    """(20, 50) values spread evenly."""
    return np.linspace(low, high, 1000).reshape(20, 50).astype(dtype)


@pytest.mark.parametrize("name, dtype", [("a.png", np.uint16), ("a.tif", np.uint16), ("a.tif", np.float32)])
def test_grey_of_16_bit_and_float_is_stretched_between_percentiles(tmp_path, caplog, name, dtype):
    Image.fromarray(ramp(1000, 3000, dtype)).save(tmp_path / name)
    with caplog.at_level(logging.INFO, "btcchat"):
        rgb = pixels(load_image(tmp_path / name))
    assert (rgb.reshape(-1, 3)[:20] == 0).all() and (rgb.reshape(-1, 3)[-20:] == 255).all()
    assert abs(rgb[10, 0, 0] - 127) <= 2
    assert len(caplog.records) == 1
    assert re.search(r"values 10(39|40)\S*\.\.29(59|60)\S* shown as 0\.\.255 \(stretch shared\)", caplog.text)


def test_an_8_bit_image_is_never_stretched(tmp_path):
    Image.new("L", SIZE, 3).save(tmp_path / "dark.png")
    assert (pixels(load_image(tmp_path / "dark.png")) == 3).all()


@pytest.mark.parametrize("kind", ["png", "tiff", "tiff with infrared", "unmarked tiff", "png with alpha"])
def test_colour_of_16_bit_keeps_its_low_bits_and_the_ratio_of_its_bands(tmp_path, kind):
    red = ramp(0, 2000)
    colour = np.stack([red, red // 2, np.zeros_like(red)], axis=2)  # Pillow by itself would show it nearly black
    more = np.concatenate([colour, np.full((20, 50, 1), 65535, np.uint16)], axis=2)
    if kind == "png":
        path = write_png16(tmp_path / "a.png", colour)
    elif kind == "png with alpha":
        path = write_png16(tmp_path / "a.png", more)
    elif kind == "tiff":
        path = write_tiff(tmp_path / "a.tif", colour, photometric=2)
    elif kind == "tiff with infrared":
        path = write_tiff(tmp_path / "a.tif", more, photometric=2, extra=(0,))
    else:
        path = write_tiff(tmp_path / "a.tif", colour, photometric=1, extra=(0, 0))
    rgb = pixels(load_image(path))
    expected = np.clip(colour / np.percentile(colour, 98) * 255, 0, 255)
    assert np.abs(rgb - expected).max() <= 1


def test_a_constant_deep_image_is_mid_grey(tmp_path):
    Image.fromarray(np.full((4, 5), 700, np.uint16)).save(tmp_path / "flat.png")
    assert (pixels(load_image(tmp_path / "flat.png")) == 127).all()


def test_no_data_and_nan_are_black_and_do_not_count(tmp_path):
    values = ramp(1000, 3000, np.float32)
    values[:, :10] = -9999
    values[0, 20] = np.nan
    path = write_tiff(tmp_path / "a.tif", values[..., None], photometric=1, nodata=-9999, sample_format=3)
    rgb = pixels(load_image(path))
    assert (rgb[:, :10] == 0).all() and (rgb[0, 20] == 0).all()
    assert 100 < np.median(rgb[:, 10:]) < 155


def test_an_image_without_a_valid_pixel_says_so(tmp_path):
    empty = np.full((4, 4, 1), np.nan, np.float32)
    path = write_tiff(tmp_path / "a.tif", empty, photometric=1, sample_format=3)
    with pytest.raises(BTCChatError, match="no valid pixel"):
        load_image(path)


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("deflate", [False, True])
def test_three_unmarked_bands_are_red_green_blue_and_that_is_logged(tmp_path, caplog, scene, planar, deflate):
    path = write_tiff(
        tmp_path / "a.tif", pixels(scene).astype(np.uint8), photometric=1, extra=(0, 0), planar=planar, deflate=deflate
    )
    with caplog.at_level(logging.INFO, "btcchat"):
        assert (pixels(load_image(path)) == pixels(scene)).all()
    assert "taken as red, green, blue" in caplog.text


def test_bands_after_red_green_blue_are_left_out_and_that_is_logged(tmp_path, caplog):
    array = np.full((4, 4, 5), (10, 20, 30, 40, 50), np.uint8)
    path = write_tiff(tmp_path / "a.tif", array, photometric=2, extra=(0, 0))
    with caplog.at_level(logging.INFO, "btcchat"):
        assert (pixels(load_image(path)) == (10, 20, 30)).all()
    assert "bands 1, 2, 3 of 5 are red, green, blue by their marks" in caplog.text


# -- faults ----------------------------------------------------------------------------------------------------------


def png(scene) -> bytes:
    buffer = io.BytesIO()
    scene.save(buffer, "PNG")
    return buffer.getvalue()


def test_the_limit_on_pixels_is_reported_with_its_value(scene):
    with pytest.raises(BTCChatError, match="24 x 16 = 384 pixels, the limit is 100"):
        load_image(scene, max_pixels=100)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_a_large_image_is_reduced_to_the_mean_of_its_pixels(tmp_path, mode):
    image = noise(457, 613).convert(mode)
    image.save(tmp_path / "large.png")
    small = load_image(tmp_path / "large.png", max_side=200)
    assert small.size == (153, 205) and small.mode == "RGB" and small.info["full_size"] == (457, 613)
    plain = image if mode in ("RGB", "RGBA", "L", "LA") else image.convert("RGB")
    expected = load_image(plain.reduce(3))
    np.testing.assert_allclose(np.asarray(small, int), np.asarray(expected, int), atol=1)
    assert load_image(tmp_path / "large.png", max_side=400).size == (457, 613)  # only whole pixels are averaged


def test_reading_images_at_a_smaller_size_is_logged_once_for_all_sizes(tmp_path, caplog):
    for width in (32, 48):
        Image.new("L", (width, 8)).save(tmp_path / f"{width}.png")
    with caplog.at_level(logging.INFO, "btcchat"):
        for width in (32, 48):
            load_image(tmp_path / f"{width}.png", max_side=8)
    assert caplog.messages == [
        f"{tmp_path}/32.png (32 x 8 as 8 x 2): images that are large for the model are read smaller"
    ]


@pytest.mark.parametrize("reading", [Reading(bands=(3, 2, 1)), Reading(nodata=0.0), Reading(nodata="none"), Reading()])
def test_flags_that_do_not_apply_to_an_image_give_one_warning(tmp_path, caplog, scene, reading):
    for name in "ab":
        scene.save(tmp_path / f"{name}.png")
        assert (np.asarray(load_image(tmp_path / f"{name}.png", reading=reading)) == np.asarray(scene)).all()
    warned = reading not in (Reading(nodata="none"), Reading())
    assert len(caplog.messages) == warned
    assert not warned or "a.png: is read without --bands and --nodata, which are for TIFF" in caplog.text


def test_a_large_image_is_turned_upright(tmp_path):
    image = noise(64, 32)
    image.getexif()[274] = 6
    image.save(tmp_path / "turned.png", exif=image.getexif())
    assert load_image(tmp_path / "turned.png", max_side=16).size == (8, 16)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_a_valid_image_of_many_pixels_needs_little_more_memory_than_its_pixels(tmp_path):
    Image.new("RGBA", (8192, 8192), (9, 99, 9, 200)).save(tmp_path / "large.png", compress_level=1)  # 256 MiB
    code = (
        "from btcchat.media import load_frames; "
        "peak = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) // 1024; before = peak(); "
        f"load_frames('image', {str(tmp_path / 'large.png')!r}); print(peak() - before)"
    )
    used = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 200 < int(used) < 400  # MiB


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    bomb = write_png16(tmp_path / "bomb.png", np.zeros((1, 1, 3), np.uint16))
    data = bytearray(bomb.read_bytes())
    for side, limit in (
        (12_000, "144,000,000 pixels, the limit is 134,217,728"),
        (60_000, "3,600,000,000 pixels, the limit"),
    ):
        data[16:24] = struct.pack(">II", side, side)
        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
        bomb.write_bytes(data)
        with pytest.raises(BTCChatError, match=limit):
            load_image(bomb)
    Image.new("1", (20_000, 20_000)).save(bomb)  # Pillow's own limit, which it names
    with pytest.raises(BTCChatError, match="bomb.png' is too large; the limit is 1,000 pixels; crop it or make it sm"):
        load_image(bomb, max_pixels=1000)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.jp2"])
def test_a_truncated_file_is_named_in_one_line(tmp_path, name):
    rng = np.random.default_rng(1)
    scene = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    scene.save(tmp_path / name, **({"compression": "tiff_lzw"} if name == "a.tif" else {}))
    whole = (tmp_path / name).read_bytes()
    for part in (0.3, 0.6, 0.9):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(BTCChatError) as error:
            load_image(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)


def test_postscript_is_never_run(tmp_path):
    (tmp_path / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(BTCChatError, match="not an image that can be read"):
        load_image(tmp_path / "a.eps")


# -- frames ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "modality, count, words",
    [
        ("image", 2, "^2 images .* an image needs 1"),
        ("pair", 1, "^1 image .* a pair needs 2 \\(before, after\\)"),
        ("pair", 3, "^3 images .* a pair needs 2"),
        ("series", 1, "^1 image .* a series needs 2 to 16 dates"),
        ("series", 17, "^17 images .* a series needs 2 to 16 dates"),
        ("video", 0, "^0 images, a video needs at least 1 frame"),
    ],
)
def test_a_wrong_count_is_an_error_with_the_given_and_the_expected_count(scene, modality, count, words):
    with pytest.raises(BTCChatError, match=words):
        load_frames(modality, [scene] * count)


def test_a_single_image_is_not_a_pair(tmp_path, scene):
    scene.save(tmp_path / "a.png")
    with pytest.raises(BTCChatError, match="a pair needs 2"):
        load_frames("pair", tmp_path / "a.png")


def test_an_unknown_modality_lists_the_choices(scene):
    with pytest.raises(BTCChatError, match="unknown modality 'pairs' .did you mean 'pair'"):
        load_frames("pairs", [scene, scene])


def test_text_has_no_frames():
    assert load_frames("text", None) == []


def test_the_order_of_a_pair_is_kept(scene):
    before, after = load_frames("pair", (scene, Image.new("RGB", SIZE)))
    assert (pixels(before) == pixels(scene)).all() and (pixels(after) == 0).all()


def test_dates_of_different_size_are_noted_once(tmp_path, scene, caplog):
    scene.save(tmp_path / "a.png")
    Image.new("RGB", (10, 10)).save(tmp_path / "b.png")
    with caplog.at_level(logging.INFO, "btcchat"):
        frames = load_frames("pair", [tmp_path / "a.png", tmp_path / "b.png"])
        load_frames("pair", frames)
    assert len(caplog.records) == 1
    assert "differ in size (24 x 16, 10 x 10)" in caplog.text


def test_a_folder_is_sorted_in_natural_order(tmp_path):
    for number in (1, 2, 10):
        Image.new("RGB", (number, 1)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "Thumbs.db").write_text("no image")
    (tmp_path / ".frame0.png").write_text("hidden")
    for modality in ("series", "video"):
        assert [frame.width for frame in load_frames(modality, tmp_path)] == [1, 2, 10]
    assert [frame.width for frame in load_frames("video", str(tmp_path), num_video_frames=2)] == [1, 10]


def test_a_folder_can_be_given_as_any_kind_of_path(tmp_path):
    class Place:
        def __fspath__(self):
            return str(tmp_path)

    for number in (1, 2):
        Image.new("RGB", (number, 1)).save(tmp_path / f"{number}.png")
    assert [frame.width for frame in load_frames("video", Place())] == [1, 2]


def test_a_folder_without_frames_says_so(tmp_path):
    with pytest.raises(BTCChatError, match="has no frames"):
        load_frames("video", tmp_path)


def test_frames_are_taken_evenly_from_the_first_to_the_last():
    assert evenly(9, 3) == [0, 4, 8]
    assert evenly(100, 4) == [0, 33, 66, 99]
    assert evenly(3, 8) == [0, 1, 2]
    assert evenly(9, 1) == [4]
    for total in range(1, 60):
        for wanted in range(1, 20):
            chosen = evenly(total, wanted)
            assert len(set(chosen)) == len(chosen) == min(total, wanted) and chosen == sorted(chosen)


def test_natural_order_takes_any_name():
    names = ["b", "a10", "a9", "A1", "²", "7", "", "a9b"]
    assert sorted(names, key=natural_key)[:3] == ["", "7", "A1"]


def test_the_real_samples_load(shared):
    for path in sorted((shared / "data" / "samples").glob("**/*.[jpt][pni][gf]")):
        image = load_image(path)
        assert image.mode == "RGB" and min(image.size) > 100
        assert pixels(image).std() > 5  # there is something to see, in 16-bit Sentinel-2 bands too


def test_reading_images_needs_no_torch():
    code = (
        "import sys, btcchat.media.images, btcchat.media.video, btcchat.data.pairs; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_image_of_16_bits_in_memory_is_stretched_and_turned_upright():
    values = np.linspace(0, 60000, 200).reshape(10, 20).astype(np.uint16)
    image = Image.fromarray(values)
    upright = np.asarray(load_image(image))
    assert upright.shape == (10, 20, 3) and upright[0, 0, 0] == 0 and upright[-1, -1, 0] == 255
    image.getexif()[ExifTags.Base.Orientation] = 6
    assert (np.asarray(load_image(image)) == np.rot90(upright, -1)).all()


def test_a_folder_is_not_a_file_and_the_error_says_what_it_can_be(tmp_path):
    with pytest.raises(
        BTCChatError, match="is a folder, but a file is expected; a folder of frames is a series or a video$"
    ):
        existing_file(tmp_path, "image")
    with pytest.raises(BTCChatError, match="is a folder, but a file is expected$"):
        existing_file(tmp_path, "mask")


@pytest.mark.parametrize("source", [5, None, [], b"a.png"])
def test_a_source_that_is_not_an_image_is_a_type_error(source):
    with pytest.raises(TypeError, match="source must be a path, a PIL image, a numpy array or a torch tensor"):
        load_image(source)


@pytest.mark.parametrize(
    ("crs", "corner", "apart"),
    [
        ("EPSG:32618", (5e5, 4e6), False),
        ("EPSG:32618", (5e5 + 900, 4e6), False),
        ("EPSG:32618", (5e5 + 50_000, 4e6), True),
        ("EPSG:32619", (5e5, 4e6), True),  # the same numbers in the next zone: 540 km away
        ("EPSG:4326", (-75, 36.14), False),  # 10 degrees a pixel
        (None, (5e5 + 50_000, 4e6), False),
    ],
)
@pytest.mark.parametrize("modality", ["pair", "series"])
def test_dates_that_lie_apart_are_noted(tmp_path, caplog, crs, corner, apart, modality):
    from rasterio import Affine

    from tests.media.scenes import scene, write

    values = (scene("counts") // 4).clip(0, 255).astype(np.uint8)
    step = 10 if crs != "EPSG:4326" else 1e-4
    before = write(tmp_path / "before.tif", values)
    after = write(tmp_path / "after.tif", values, crs=crs, transform=Affine(step, 0, corner[0], 0, -step, corner[1]))
    load_frames(modality, [before, after])
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert lines == [f"{before}: does not overlap {after} on the map; check that both show the same place"] * apart
