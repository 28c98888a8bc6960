"""Grids, overlaps and dates, and the errors for scenes that do not fit together."""

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.rpc import RPC
from rasterio.warp import Resampling, calculate_default_transform, reproject

from btcchat.errors import BTCChatError
from btcchat.geo.grid import choose_grid
from btcchat.geo.inputs import find_files
from btcchat.geo.projection import area, metres
from btcchat.geo.scene import Scene
from btcchat.geo.tiles import Tiles
from btcchat.geo.warp import OnGrid
from btcchat.media.dates import day_in, in_order, scene_date
from btcchat.media.reading import Reading
from tests.geo.drawn import CORNER, UTM, picture, write


def opened(*paths) -> list[Scene]:
    return [Scene(find_files(path), Reading()) for path in paths]


def warped(path, crs: str, **profile):
    """The same ground as ``path`` in another CRS."""
    with rasterio.open(path) as source:
        transform, width, height = calculate_default_transform(
            source.crs, crs, source.width, source.height, *source.bounds
        )
        pixels = np.zeros((source.count, height, width), source.dtypes[0])
        reproject(
            source.read(),
            pixels,
            src_transform=source.transform,
            src_crs=source.crs,
            dst_transform=transform,
            dst_crs=crs,
            resampling=Resampling.cubic,
            dst_nodata=0,
        )
    name = path.with_name(f"{path.stem}-{crs[5:]}.tif")
    return write(name, pixels.transpose(1, 2, 0), transform=transform, crs=crs, nodata=0, **profile)


def test_the_grid_is_the_pixels_of_the_last_date(tmp_path):
    before = write(tmp_path / "a.tif", picture(300), corner=(CORNER[0] - 20, CORNER[1] + 10))
    after = write(tmp_path / "b.tif", picture(320))
    grid, overlap = choose_grid(opened(before, after), aoi=None)
    assert grid.transform == rasterio.Affine(0.5, 0, CORNER[0], 0, -0.5, CORNER[1])
    assert (grid.width, grid.height) == (260, 280)  # 300 pixels less 20 m, and less 10 m
    assert overlap.share == pytest.approx(260 * 280 / 300**2)
    assert not OnGrid(opened(after)[0], grid).resampled


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
def test_a_scene_without_metres_on_the_ground_is_gridded_in_utm(tmp_path, crs):
    scene = warped(write(tmp_path / "a.tif", picture()), crs)
    grid, _ = choose_grid(opened(scene, scene), aoi=None)
    assert grid.crs.to_epsg() == 32633
    assert grid.gsd == pytest.approx(0.5, rel=0.05)


def test_web_mercator_metres_are_not_ground_metres_and_areas_are_geodesic(tmp_path):
    from pyproj import CRS
    from shapely import box

    web = CRS("EPSG:3857")
    x, y = Transformer.from_crs(4326, 3857, always_xy=True).transform(13.0, 60.0)
    assert metres(web, x, y) == pytest.approx((0.5, 0.5), rel=0.01)  # 1 / cos 60°, within the ellipsoid's share
    assert area(box(x, y, x + 100, y + 100), web) == pytest.approx(2500, rel=0.02)


def test_gsd_is_metres_on_the_ground_whatever_the_unit(tmp_path):
    feet = warped(write(tmp_path / "a.tif", picture()), "EPSG:32633")
    grid, _ = choose_grid(opened(feet, feet), gsd=2.0, aoi=None)
    assert grid.transform.a == 2.0 and grid.gsd == 2.0
    survey = write(tmp_path / "f.tif", picture(), crs="EPSG:2263", corner=(1_000_000, 200_000), gsd=2.0)
    grid, _ = choose_grid(opened(survey, survey), gsd=0.6096, aoi=None)
    assert grid.transform.a == pytest.approx(2.0, rel=1e-4) and grid.gsd == pytest.approx(0.6096)


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:32631"])
@pytest.mark.parametrize("gsd", [None, 2.0])
def test_gsd_is_metres_on_the_ground_in_a_crs_that_is_not_true_to_scale(tmp_path, crs, gsd):
    """At 60 degrees, a metre of Web Mercator is half a metre, and UTM is stretched 12 degrees from a zone's middle."""
    corner = Transformer.from_crs(4326, 32633, always_xy=True).transform(15.1, 60.0)
    scene = write(tmp_path / "a.tif", picture(), corner=corner, gsd=1.0)
    grid, _ = choose_grid(opened(scene, scene), crs=crs, gsd=gsd, aoi=None)
    side = area(grid.polygon(grid.width // 2, grid.height // 2, 1, 1), grid.crs) ** 0.5
    assert side == pytest.approx(gsd or 1.0, rel=1e-3) and grid.gsd == pytest.approx(side, rel=1e-3)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32632"])
def test_positions_are_accurate_to_half_a_pixel_in_another_crs(tmp_path, crs):
    pixels = np.full((384, 384, 3), 60, np.uint8)
    spots = [(50, 60), (200, 310), (330, 120)]
    for row, column in spots:
        pixels[row - 3 : row + 4, column - 3 : column + 4] = 250
    truth = write(tmp_path / "a.tif", pixels)
    other = warped(truth, crs)
    grid, _ = choose_grid(opened(other, truth), aoi=None)
    seen = OnGrid(opened(other)[0], grid).read((0, 0, grid.width, grid.height)).values[..., 0]
    for row, column in spots:
        x, y = rasterio.Affine(0.5, 0, CORNER[0], 0, -0.5, CORNER[1]) @ (column + 0.5, row + 0.5)
        at = ~grid.transform @ (x, y)  # where it should be, in the grid's pixels
        left, top = int(at[0]) - 8, int(at[1]) - 8
        part = np.clip(seen[top : top + 17, left : left + 17] - 100, 0, None)
        rows, columns = np.mgrid[top : top + 17, left : left + 17] + 0.5
        found = (part * columns).sum() / part.sum(), (part * rows).sum() / part.sum()
        assert np.hypot(found[0] - at[0], found[1] - at[1]) < 0.5


def test_no_data_does_not_leak_into_valid_pixels(tmp_path):
    pixels = np.full((384, 384, 3), 200, np.uint8)
    pixels[100:200, 100:300] = 0
    hole = write(tmp_path / "hole.tif", pixels, nodata=0)
    grid, _ = choose_grid(opened(hole, hole), crs="EPSG:32632", aoi=None)
    read = OnGrid(opened(hole)[0], grid).read((0, 0, grid.width, grid.height))
    assert (read.values[read.valid] == 200).all() and (read.values[~read.valid] == 0).all()
    inside = grid.outline().area * read.valid.mean() / (0.25 * (384**2 - 100 * 200))
    assert inside == pytest.approx(1, abs=0.02)


def test_a_rotated_raster_is_warped(tmp_path):
    turned = rasterio.Affine.translation(*CORNER) @ rasterio.Affine.rotation(5) @ rasterio.Affine.scale(0.5, -0.5)
    scene = write(tmp_path / "a.tif", picture(), transform=turned)
    grid, _ = choose_grid(opened(scene, scene), aoi=None)
    assert grid.transform.b == grid.transform.d == 0
    read = OnGrid(opened(scene)[0], grid).read((0, 0, grid.width, grid.height))
    assert 0.75 < read.valid.mean() < 0.9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"corner": (CORNER[0] + 5000, CORNER[1])}, "do not overlap"),
        ({"crs": None}, "has no coordinate reference system; set it"),
        ({"transform": rasterio.Affine.identity()}, "has no geotransform"),
        ({"crs": 'LOCAL_CS["site",UNIT["metre",1]]'}, "system 'site' cannot be transformed to 'WGS 84"),
    ],
)
def test_scenes_without_a_common_place_give_one_line_with_the_way_out(tmp_path, change, words):
    scene, other = write(tmp_path / "a.tif", picture()), write(tmp_path / "b.tif", picture(), **change)
    with pytest.raises(BTCChatError, match=words) as raised:
        choose_grid(opened(scene, other), aoi=None)
    assert "\n" not in str(raised.value) and len(str(raised.value)) <= 300


def test_a_raster_placed_by_control_points_alone_is_refused(tmp_path):
    from rasterio.control import GroundControlPoint

    path = tmp_path / "a.tif"
    points = [GroundControlPoint(r, c, 13 + c / 1e5, 42 - r / 1e5) for r, c in ((0, 0), (0, 99), (99, 0), (99, 99))]
    with rasterio.open(path, "w", driver="GTiff", width=100, height=100, count=1, dtype="uint8") as file:
        file.gcps = (points, "EPSG:4326")
        file.write(np.ones((1, 100, 100), np.uint8))
    with pytest.raises(BTCChatError, match="only by ground control points, .*gdalwarp -tps"):
        opened(path)


def test_a_raster_placed_by_a_sensor_model_alone_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    line = [0.0, 0.0, -1.0] + [0.0] * 17  # rows go down with latitude
    sample = [0.0, 1.0] + [0.0] * 18
    one = [1.0] + [0.0] * 19
    with rasterio.open(path, "w", driver="GTiff", width=100, height=100, count=1, dtype="uint8") as file:
        file.rpcs = RPC(
            height_off=0, height_scale=500, lat_off=42, lat_scale=0.1, line_den_coeff=one, line_num_coeff=line,
            line_off=50, line_scale=50, long_off=13, long_scale=0.1, samp_den_coeff=one, samp_num_coeff=sample,
            samp_off=50, samp_scale=50,
        )  # fmt: skip
        file.write(np.ones((1, 100, 100), np.uint8))
    with pytest.raises(BTCChatError, match=r"only by a sensor model \(RPC\), .*gdalwarp -rpc"):
        opened(path)


def test_the_last_row_and_column_move_inward(tmp_path):
    scene = write(tmp_path / "a.tif", picture(300))
    grid, _ = choose_grid(opened(scene, scene), aoi=None)
    tiles = Tiles(grid, 128, 0.125)
    assert tiles.lefts == tiles.tops == [0, 112, 172]
    assert all(grid.outline().contains(tiles.polygon(number)) for number in range(len(tiles)))
    assert {tiles.nearest(10, 10), tiles.nearest(290, 290)} == {0, 8}
    with pytest.raises(BTCChatError, match="but a tile has 512 x 512; give --tile 300"):
        Tiles(grid, 512, 0.125)


def test_dates_come_from_tags_and_names():
    assert scene_date({"ACQUISITIONDATETIME": "2021:06:01 10:00:00"}, "x_2019-01-01.tif") == "2021-06-01"
    assert scene_date({"TIFFTAG_DATETIME": "2022:02:02 00:00:00"}, "S2A_MSIL1C_20160822T1.SAFE") == "2016-08-22"
    assert scene_date({}, "LC08_L2SP_191031_20160822_20200906_02_T1") == "2016-08-22"
    assert scene_date({"TIFFTAG_DATETIME": "2022:02:02 00:00:00"}, "scene.tif") == "2022-02-02"
    assert scene_date({}, "city_2018.tif") == "2018" and scene_date({}, "scene_12.tif") is None
    assert day_in("20211399") is None
    assert in_order("2019", "2019-05-01") and in_order(None, "2019") and not in_order("2020-01-01", "2019")
    assert not in_order("20200101", "2019-12-31") and in_order("31.12.2019", "01.01.2021") and in_order("wet", "dry")


def test_the_bands_of_product_folders_are_found(tmp_path):
    bands = tmp_path / "S2A_20160822.SAFE" / "GRANULE" / "L1C" / "IMG_DATA"
    bands.mkdir(parents=True)
    for band in ("B02", "B03", "B04", "B08"):
        (bands / f"T33_{band}.jp2").touch()
    assert [path[-7:-4] for path in find_files(tmp_path / "S2A_20160822.SAFE").paths] == ["B04", "B03", "B02"]
    landsat = tmp_path / "LT05_L1TP_191031_19990822"
    landsat.mkdir()
    for band in "1234":
        (landsat / f"{landsat.name}_B{band}.{'TIF' if band < '3' else 'tif'}").touch()
    assert [path[-5] for path in find_files(landsat).paths] == ["3", "2", "1"]
    with pytest.raises(BTCChatError, match="neither a Sentinel-2 SAFE nor a Landsat product"):
        find_files(tmp_path)


def test_remote_files_are_opened_only_if_allowed():
    with pytest.raises(BTCChatError, match="--allow-remote"):
        find_files("https://example.org/a.tif")
    assert find_files("https://example.org/a.tif", allow_remote=True).paths == ("/vsicurl/https://example.org/a.tif",)


def test_files_of_one_band_each_are_one_date(tmp_path):
    pixels = picture()
    paths = [write(tmp_path / f"B0{4 - band}.tif", pixels[..., band]) for band in range(3)]
    whole = write(tmp_path / "whole.tif", pixels)
    several, one = Scene(find_files(paths), Reading()), opened(whole)[0]
    grid, _ = choose_grid([several, one], aoi=None)
    window = (10, 20, 64, 64)
    assert (OnGrid(several, grid).read(window).values == OnGrid(one, grid).read(window).values).all()
    assert several.crs.to_string() == UTM


def test_a_warp_that_loses_pixels_inside_the_footprint_is_an_error(tmp_path, monkeypatch):
    scene = warped(write(tmp_path / "a.tif", picture()), "EPSG:32632")
    grid, _ = choose_grid(opened(scene, write(tmp_path / "b.tif", picture())), aoi=None)
    date = OnGrid(opened(scene)[0], grid)
    assert date.read((100, 100, 128, 128)).valid.all()
    monkeypatch.setattr("rasterio.warp.reproject", lambda source, target, **_: (target, None))
    with pytest.raises(BTCChatError, match="covers 100% of the window, but after resampling only 0% has values"):
        date.read((100, 100, 128, 128))
