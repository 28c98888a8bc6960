"""Damaged rasters give an image or a one-line error."""

import random

import numpy as np
import pytest
import rasterio
from PIL import Image

from btcchat.errors import BTCChatError
from btcchat.media import Raster, load_image
from btcchat.media.source import Embedded
from tests.media.scenes import scene, write


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The bytes with a few of them changed, most of them near the start, or the end cut off."""
    changed = bytearray(data)
    if chance.random() < 0.2:
        return data[: chance.randrange(1, len(data))]
    for _ in range(chance.randint(1, 6)):
        changed[chance.randrange(min(len(data), chance.choice((64, 300, len(data)))))] = chance.choice((0, 1, 127, 255))
    return bytes(changed)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["tiled.tif", "strips.tif", "palette.tif", "a.jp2"])
def test_a_damaged_file_gives_an_image_or_a_one_line_error(tmp_path, name):
    if name == "palette.tif":
        Image.effect_noise((24, 16), 90).convert("P").save(tmp_path / name)
    elif name == "a.jp2":
        Image.fromarray((scene("reflectance", side=32) / 13).astype(np.uint8)).save(tmp_path / name)
    else:
        tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16} if name == "tiled.tif" else {}
        write(tmp_path / name, scene("float", side=32), compress="deflate", nodata=-9999, **tiles)
    data, chance = (tmp_path / name).read_bytes(), random.Random(0)
    for _ in range(60):
        try:
            assert load_image(Embedded(name, damaged(data, chance)), max_side=64).mode == "RGB"
        except BTCChatError as error:
            assert "\n" not in str(error) and len(str(error)) <= 300


def test_a_damaged_part_does_not_hide_no_data_in_the_rest(tmp_path):
    values = scene("float", side=256)
    values[:64, :64] = -9999
    path = write(tmp_path / "a.tif", values, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_3_3", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[offset : offset + 100] = b"\xff" * 100
    path.write_bytes(data)
    with Raster(path) as raster:
        assert not raster.read((0, 0, 64, 64)).valid.any()
        with pytest.raises(BTCChatError, match="truncated or damaged"):
            raster.read()
