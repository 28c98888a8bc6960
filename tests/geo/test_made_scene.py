"""A made scene of 4,096 x 4,096 pixels: the dates differ in CRS, resolution and extent, and a wedge has no data."""

import json

import numpy as np
import pytest
import rasterio
import shapely
from pyogrio.raw import read
from rasterio.warp import Resampling, calculate_default_transform, reproject

from btcchat.geo.projection import CRS, area
from btcchat.geo.rows import DONE, SKIPPED
from tests.geo.drawn import CORNER, picture, run_scenes, write

SIDE = 4096
PLACES = [(700, 2900), (2000, 1500), (3000, 3300), (3500, 900)]  # row, column of what is built
BUILT = 120  # pixels of its side


@pytest.mark.slow
def test_changes_are_found_at_their_places_through_crs_resolution_and_extent(tmp_path):
    before = picture(SIDE)
    after = before.copy()
    for row, column in PLACES:
        after[row : row + BUILT, column : column + BUILT] = 250
    after = write(tmp_path / "after_2021-06-01.tif", after, compress="deflate")
    with rasterio.open(after) as file:
        bounds = file.bounds
        transform, width, height = calculate_default_transform(
            file.crs, "EPSG:32632", SIDE, SIDE, *bounds, resolution=0.4
        )
        here = file.transform
    pixels = np.zeros((3, height, width), np.uint8)
    wedge = np.tril(np.ones((SIDE, SIDE), bool), -SIDE // 2 - 1000)  # at the lower left
    reproject(
        np.where(wedge[..., None], 0, before).transpose(2, 0, 1),
        pixels,
        src_transform=here,
        src_crs="EPSG:32633",
        src_nodata=0,
        dst_transform=transform,
        dst_crs="EPSG:32632",
        dst_nodata=0,
        resampling=Resampling.bilinear,
    )
    pixels = pixels[:, :, : width - 800]  # 320 m less in the east
    before = write(
        tmp_path / "before_2019-05-01.tif", pixels.transpose(1, 2, 0), transform=transform, crs="EPSG:32632", nodata=0
    )

    record, rows = run_scenes([before, after], tmp_path / "out", tile=256)

    assert record["grid"]["crs"] == "EPSG:32633" and record["resampling"] == ["bilinear", "none"]
    assert record["grid"]["size"][0] < SIDE and 0.8 < record["overlap_of_dates"] <= 1
    assert record["registration"][0]["metres"] < 0.25  # half a pixel
    assert record["counts"][SKIPPED] > 3 and record["counts"][DONE] + record["counts"][SKIPPED] == len(rows)
    x, y = zip(*(((column * 0.5 + CORNER[0]), CORNER[1] - row * 0.5) for row, column in PLACES), strict=True)
    truth = [shapely.box(left, top - BUILT / 2, left + BUILT / 2, top) for left, top in zip(x, y, strict=True)]
    meta, _, geometry, columns = read(tmp_path / "out" / "changes.gpkg", layer="changes")
    found = shapely.from_wkb(geometry)
    assert len(found) == len(truth)
    for place in truth:
        [shape] = [one for one in found if one.intersects(place)]
        assert shape.intersection(place).area / shape.union(place).area > 0.6
        assert np.hypot(shape.centroid.x - place.centroid.x, shape.centroid.y - place.centroid.y) < 8  # half a patch
    sizes = columns[list(meta["fields"]).index("area_m2")]
    assert sum(sizes) == pytest.approx(sum(area(shape, CRS("EPSG:32633")) for shape in found), rel=1e-3)
    with rasterio.open(tmp_path / "out" / "change.tif") as file:
        assert file.overviews(1) and np.isnan(file.read(1)).mean() > 0.05
    geojson = json.loads((tmp_path / "out" / "tiles.geojson").read_text())
    assert len(geojson["features"]) == len(rows) == record["tiles"]["in the run"]
