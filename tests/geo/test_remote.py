"""Scenes over the network, from a server on this machine that sends parts of files."""

import json
import socket
import sys
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import numpy as np
import pytest
from rio_cogeo.cogeo import cog_translate
from rio_cogeo.profiles import cog_profiles

from btcchat.errors import BTCChatError
from btcchat.geo.grid import choose_grid
from btcchat.geo.inputs import find_files, stac_files
from btcchat.geo.scene import Scene
from btcchat.geo.warp import OnGrid
from btcchat.media.raster.opening import NETWORK
from btcchat.media.reading import Reading
from tests.geo.drawn import first_line, picture, write
from tests.geo.test_stac import stac_item

SERVER = Path(__file__).with_name("range_server.py")


@contextmanager
def served(folder):
    """The address of a server of ``folder``, and a function that stops it and returns the size of the parts it sent."""
    process = Popen([sys.executable, SERVER], cwd=folder, stdout=PIPE, text=True)

    def sent() -> int:
        process.terminate()
        return sum(map(int, process.stdout))

    try:
        yield first_line(process), sent
    finally:
        process.kill()
        process.wait(timeout=60)
        process.stdout.close()


@pytest.fixture
def cog(tmp_path):
    """A COG of incompressible blocks, so that a window is a small part of the file."""
    pixels = np.random.default_rng(0).integers(0, 255, (2048, 2048, 3), np.uint8)
    profile = {**cog_profiles.get("deflate"), "blockxsize": 256, "blockysize": 256}
    cog_translate(write(tmp_path / "plain.tif", pixels), tmp_path / "cog.tif", profile, quiet=True)
    return tmp_path / "cog.tif", pixels


def test_a_window_of_a_remote_cog_is_read_without_the_rest(cog):
    path, pixels = cog
    with served(path.parent) as (address, sent):
        with Scene(find_files(f"{address}/cog.tif", allow_remote=True), Reading()) as scene:
            grid, _ = choose_grid([scene, scene], aoi=None)
            window = OnGrid(scene, grid).read((512, 256, 256, 256))  # left, top, width, height
        assert (window.values == pixels[256:512, 512:768]).all()
        assert 0 < sent() < path.stat().st_size / 3


def test_the_asset_of_a_remote_stac_item_is_read(tmp_path):
    write(tmp_path / "v.tif", picture())
    (tmp_path / "items").mkdir()
    item = stac_item("../v.tif", datetime="2020-02-03T00:00:00Z")
    (tmp_path / "items" / "item.json").write_text(json.dumps(item))
    with served(tmp_path) as (address, _):
        with pytest.raises(BTCChatError, match="--allow-remote"):
            stac_files(f"{address}/items/item.json", "visual")
        files = stac_files(f"{address}/items/item.json?token=a/b", "visual", allow_remote=True)
        assert files.name == "one" and files.date == "2020-02-03"
        with Scene(files, Reading()) as scene:
            assert scene.rasters[0].width == picture().shape[1]
        with pytest.raises(BTCChatError, match="could not be downloaded"):
            stac_files(f"{address}/other.json", "visual", allow_remote=True)


def test_a_missing_remote_scene_gives_one_line(tmp_path):
    with served(tmp_path) as (address, _), pytest.raises(BTCChatError) as error:
        Scene(find_files(f"{address}/none.tif", allow_remote=True), Reading())
    assert "none.tif" in str(error.value) and "\n" not in str(error.value)


def test_a_server_that_stops_answering_is_an_error_and_not_an_endless_wait(monkeypatch):
    monkeypatch.setattr(
        "btcchat.media.raster.opening.NETWORK", NETWORK | {"GDAL_HTTP_LOW_SPEED_TIME": 1, "GDAL_HTTP_MAX_RETRY": 0}
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/silent.tif"
        with pytest.raises(BTCChatError, match=r"silent.tif' cannot be read: .*too slow"):
            Scene(find_files(address, allow_remote=True), Reading())
