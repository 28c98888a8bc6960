"""The files of a run, read back with rasterio, pyogrio and a GeoJSON reader."""

import base64
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from PIL import Image
from pyogrio.raw import read
from pyproj import Transformer

from btcchat.errors import BTCChatError
from btcchat.geo.blend import BLOCK, BlendedMap, taper
from btcchat.geo.outputs.cog import LEVELS
from btcchat.geo.outputs.pictures import STRONGEST, map_picture
from btcchat.geo.rows import DONE, pack_patches, unpack_patches
from btcchat.geo.summary import region
from btcchat.geo.tiles import Tiles
from tests.geo import rfc7946
from tests.geo.drawn import CORNER, picture, run_scenes, write


@pytest.fixture
def run(pair, tmp_path):
    record, rows = run_scenes(pair, tmp_path / "out", formats=("geoparquet",), questions=("How many?",))
    return tmp_path / "out", record, rows


def test_tiles_are_geojson_that_follows_rfc_7946(run):
    out, _, rows = run
    content = json.loads((out / "tiles.geojson").read_text())
    rfc7946.check(content)
    assert len(content["features"]) == len(rows)
    to_lonlat = Transformer.from_crs(32633, 4326, always_xy=True)
    for feature, row in zip(content["features"], rows, strict=True):
        polygon = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert polygon.is_valid
        found = feature["properties"]
        assert found["tile"] == row["tile"] and found["answer_1"] == "How many?"
        left, top = CORNER[0] + 0.5 * 112 * found["column"], CORNER[1] - 0.5 * 112 * found["row"]
        if found["column"] < 2 and found["row"] < 2:  # the last ones are moved inward
            corner = to_lonlat.transform(left, top)
            assert np.abs(np.array(polygon.exterior.coords) - corner).max(axis=1).min() < 2e-7
        assert found["area_m2"] == pytest.approx(64 * 64, rel=0.002)


def test_both_packages_have_the_grids_crs_and_a_style(run):
    out, record, rows = run
    for name, layer in (("tiles.gpkg", "tiles"), ("changes.gpkg", "changes")):
        about = pyogrio.read_info(out / name, layer=layer)
        assert about["crs"] == "EPSG:32633" and about["geometry_type"] == "Polygon"
        with sqlite3.connect(out / name) as file:
            style = file.execute("SELECT f_table_name, f_geometry_column, styleQML, useAsDefault FROM layer_styles")
            assert [(row[:2], row[3]) for row in style] == [((layer, "geom"), 1)]
    meta, _, _, columns = read(out / "tiles.gpkg", layer="tiles")
    table = dict(zip(meta["fields"], columns, strict=True))
    assert list(table["tile"]) == [row["tile"] for row in rows]
    assert set(table["settings"]) == {record["settings_hash"]} and set(table["model"]) == {"stub"}
    assert set(table["date_1"]) == {"2019-05-01"} and set(table["date_2"]) == {"2021-06-01"}


def test_any_number_of_rows_is_written_in_parts(pair, tmp_path, monkeypatch):
    monkeypatch.setattr("btcchat.geo.outputs.vectors.PART", 3)
    _, rows = run_scenes(pair, tmp_path / "out", formats=("geoparquet",))
    meta, _, geometry, columns = read(tmp_path / "out" / "tiles.gpkg", layer="tiles")
    assert list(columns[list(meta["fields"]).index("tile")]) == [row["tile"] for row in rows] == list(range(16))
    from pyarrow import parquet

    assert parquet.read_table(tmp_path / "out" / "tiles.parquet").column("geometry").to_pylist() == list(geometry)


def test_changes_are_polygons_with_area_and_caption(run):
    out, record, _ = run
    meta, _, geometry, columns = read(out / "changes.gpkg", layer="changes")
    [shape] = shapely.from_wkb(geometry)
    left, top = CORNER[0] + 30, CORNER[1] - 20  # columns 60 to 120, rows 40 to 100
    truth = shapely.box(left, top - 30, left + 30, top)
    assert shape.is_valid and shape.intersection(truth).area / shape.union(truth).area > 0.7
    table = dict(zip(meta["fields"], columns, strict=True))
    assert table["area_m2"][0] == pytest.approx(shape.area, rel=0.002)
    assert table["caption"][0] == "a house was built on the right ."
    assert record["changes"] == {"polygons": 1, "area_m2": table["area_m2"][0]}


@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_the_map_is_a_cloud_optimized_geotiff(pair, tmp_path, kind):
    run_scenes(pair, tmp_path / "out", map_dtype=kind)
    with rasterio.open(tmp_path / "out" / "change.tif") as file:
        assert file.crs.to_epsg() == 32633 and file.dtypes == (kind,) and file.descriptions == ("change",)
        assert file.transform == rasterio.Affine(0.5, 0, CORNER[0], 0, -0.5, CORNER[1])
        change = file.read(1, masked=True) * file.scales[0]
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert change[70, 90] > 0.4 and change[300, 300] < 0.02 and change.max() <= 1
    if kind == "uint8":
        assert change[70, 90] * LEVELS == pytest.approx(round(change[70, 90] * LEVELS))
    rio_cogeo = pytest.importorskip("rio_cogeo")
    assert rio_cogeo.cog_validate(str(tmp_path / "out" / "change.tif"), quiet=True)[0]


def fails(error):
    def function(*_, **__):
        raise error

    return function


@pytest.mark.parametrize(
    ("broken", "by", "reason"),
    [
        ("rasterio.shutil.copy", fails(SystemError("Unknown GDAL Error. To debug: https://a")), "Unknown GDAL Error"),
        ("btcchat.geo.outputs.vectors.layer_style", fails(sqlite3.OperationalError("disk is full")), "disk is full"),
    ],
)
def test_a_library_that_cannot_write_gives_one_line(pair, tmp_path, monkeypatch, broken, by, reason):
    """What they raise on a full disk."""
    monkeypatch.setattr(broken, by)
    with pytest.raises(BTCChatError, match=f"out/.* cannot be written: {reason}; make room, then run again"):
        run_scenes(pair, tmp_path / "out")


def test_a_map_that_gdal_cut_short_without_an_error_is_not_kept(pair, tmp_path, monkeypatch):
    """GDAL does so where the disk is full when it closes the file."""
    from rasterio.shutil import copy

    def cut(source, target, **options):
        copy(source, target, **options)
        os.truncate(target, os.path.getsize(target) - 100)

    monkeypatch.setattr("rasterio.shutil.copy", cut)
    with pytest.raises(BTCChatError, match=r"change.tif cannot be written: parts of it are missing; make room"):
        run_scenes(pair, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*change*")) and not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("writer", ["write_map", "above"])
def test_pixels_that_are_lost_on_the_way_to_the_disk_are_noticed(pair, tmp_path, monkeypatch, writer):
    from btcchat.geo.outputs import cog

    def lossy(file, *given):
        written = found(file, *given)
        file.write(np.zeros((1, 1), file.dtypes[0]), 1, window=((70, 71), (90, 91)))
        return written

    found = cog._write_blocks
    monkeypatch.setattr(cog, "_write_blocks", lossy)
    if writer == "above":
        monkeypatch.setattr("btcchat.geo.outputs.write.write_map", lambda *_, **__: None)
    with pytest.raises(BTCChatError, match=r"change.* cannot be written: parts of it are missing; make room"):
        run_scenes(pair, tmp_path / "out")


def test_a_large_map_has_overviews(tmp_path):
    pixels = picture(1040)
    scene = write(tmp_path / "a.tif", pixels)
    run_scenes([scene, scene], tmp_path / "out", tile=256)
    with rasterio.open(tmp_path / "out" / "change.tif") as file:
        assert file.overviews(1) and file.read(1).max() < 1e-3


class Rows:
    """A log of tiles whose maps have one value each."""

    def __init__(self, values) -> None:
        self.values, self.statuses = values, dict.fromkeys(range(len(values)), DONE)

    def row(self, number):
        return {"pairs": [{"patches": pack_patches(np.full((4, 4), self.values[number]))}]}


def test_blended_maps_have_no_seams_and_equal_their_blocks(tmp_path):
    scene = write(tmp_path / "a.tif", np.ones((1200, 300, 1), np.uint8))
    from tests.geo.test_grid import choose_grid, opened

    grid, _ = choose_grid(opened(scene, scene), aoi=None)
    tiles = Tiles(grid, 128, 0.25)
    random = np.random.default_rng(0)
    blended = BlendedMap(tiles, Rows(random.random(len(tiles))))
    change = blended.read((0, 0, grid.width, grid.height))
    steps = max(np.abs(np.diff(change, axis=axis)).max() for axis in (0, 1))
    assert steps < 0.05  # abruptly it would be up to 1
    parts = [blended.read(window) for window in blended.blocks()]
    assert len(parts) == 2 and (np.concatenate(parts) == change).all() and parts[0].shape[0] == BLOCK


@pytest.mark.parametrize(("most", "opacity"), [(1e-7, 0), (0.1, 0.5), (0.8, 1)])
def test_the_picture_of_a_map_is_fully_red_only_above_the_threshold(tmp_path, most, opacity):
    """In a map of two equal scenes there is nothing but rounding errors."""
    from tests.geo.test_grid import choose_grid, opened

    scene = write(tmp_path / "a.tif", np.ones((300, 300, 1), np.uint8))
    tiles = Tiles(choose_grid(opened(scene, scene), aoi=None)[0], 128, 0.25)
    uri = map_picture(BlendedMap(tiles, Rows(most * np.linspace(0, 1, len(tiles)))), 0.2)
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert np.asarray(picture)[..., 3].max() == pytest.approx(STRONGEST * opacity, abs=4)


def test_weights_are_one_inside_and_fade_over_the_margin():
    weights = taper(128, 16)
    assert (weights[16:-16, 16:-16] == 1).all() and 0 < weights[0, 64] < 0.05 and (weights > 0).all()


def test_patches_are_the_same_after_packing():
    patches = np.random.default_rng(0).random((27, 27)).astype(np.float16)
    assert (unpack_patches(pack_patches(patches)) == patches).all()


def test_geoparquet_has_its_crs(run):
    from pyarrow import parquet

    out, _, rows = run
    table = parquet.read_table(out / "tiles.parquet")
    about = json.loads(table.schema.metadata[b"geo"])
    assert about["version"] == "1.1.0" and about["columns"]["geometry"]["encoding"] == "WKB"
    assert about["columns"]["geometry"]["crs"]["id"] == {"authority": "EPSG", "code": 32633}
    shapes = shapely.from_wkb(table.column("geometry").to_pylist())
    assert len(shapes) == len(rows) and shapely.bounds(shapes[0])[0] == CORNER[0]


def test_the_report_is_one_file_that_loads_nothing(run):
    out, _, rows = run
    page = (out / "report.html").read_text()
    assert "default-src 'none'" in page and page.count("<rect data-tile=") == len(rows) == page.count("<tr data-tile=")
    assert 'customElements.define("image-swipe"' in page and 'src="http' not in page
    assert "openstreetmap.org/?mlat=42." in page and "new buildings" in page


def test_the_table_ends_with_the_tiles_that_were_not_done(pair, tmp_path):
    pixels = picture()
    pixels[:, :200] = 0
    wedge = write(tmp_path / "wedge.tif", pixels, nodata=0)
    run_scenes([wedge, pair[1]], tmp_path / "out", min_valid=0.6)
    changes = re.findall(
        r"<tr data-tile=\d+ tabindex=0><td>\d+</td><td>(.*?)</td>", (tmp_path / "out" / "report.html").read_text()
    )
    assert "0.0 %" in changes and changes[-8:] == [""] * 8 and "" not in changes[:-8]


def test_a_browser_selects_the_tile_in_the_address_and_sorts(run):
    if shutil.which("chromium") is None:
        pytest.skip("needs Chromium")
    out, _, _ = run
    page = (out / "report.html").read_text()
    tried = out / "tried.html"  # with the click on a column's name in it
    tried.write_text(page.replace("</script>", 'document.querySelector("th button").click();</script>'))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{tried}#tile=5"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert 'data-tile="5" x="' in shown and shown.count('class="picked"') == 2  # in the picture and in the table
    numbers = re.findall(r'<tr data-tile="(\d+)"', shown)
    assert numbers == sorted(numbers, key=int, reverse=True)


def test_markup_in_a_caption_is_escaped(pair, tmp_path):
    from tests.geo.stub import StubModel

    model = StubModel()
    model.caption = lambda frames: "<script>alert(1)</script>"
    run_scenes(pair, tmp_path / "out", model=model)
    assert "<script>alert" not in (tmp_path / "out" / "report.html").read_text()


def test_the_summary_counts_claims_and_says_where(run):
    _, record, rows = run
    changed = sum(row["pairs"][0]["caption"] != "nothing has changed ." for row in rows)
    assert f"{changed} tile{'s' * (changed > 1)} with new buildings, in the north-west" in record["summary"]
    assert f"{len(rows) - changed} tiles without a change" in record["summary"]


def test_a_region_is_named_only_where_most_tiles_are(run, tmp_path):
    from tests.geo.test_grid import choose_grid, opened

    scene = write(tmp_path / "a.tif", picture(600))
    tiles = Tiles(choose_grid(opened(scene, scene), aoi=None)[0], 128, 0.125)
    columns = len(tiles.lefts)
    assert region([columns - 1, 2 * columns - 1], tiles) == "in the north-east"
    assert region(list(range(len(tiles))), tiles) is None
    assert region([0, 1, columns, columns + 1, len(tiles) - 1], tiles) == "mostly in the north-west"


@pytest.mark.parametrize(("y", "place"), [(1_500_000, "in the north"), (-1_500_000, None)])
def test_no_region_is_named_where_the_top_of_the_grid_is_not_its_north(tmp_path, y, place):
    """In Antarctica, the top of the grid is north at longitude 0, and south at longitude 180."""
    from tests.geo.test_grid import choose_grid, opened

    scene = write(tmp_path / "a.tif", picture(600), crs="EPSG:3031", corner=(-150, y), gsd=1.0)
    tiles = Tiles(choose_grid(opened(scene, scene), crs="EPSG:3031", aoi=None)[0], 128, 0.125)
    assert region(range(len(tiles.lefts)), tiles) == place
