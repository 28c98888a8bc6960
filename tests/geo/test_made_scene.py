"""A made scene of 4,096 x 4,096 pixels with everything that makes two dates differ.

The dates have other CRS, resolutions and extents and are shifted against each other; one has a wedge without data, the
other clouds.
"""

import json

import numpy as np
import pytest
import rasterio
import shapely
from pyogrio.raw import read
from rasterio.warp import Resampling, calculate_default_transform, reproject

from btcchat.geo.projection import CRS, area
from btcchat.geo.rows import DONE, SKIPPED
from tests.geo import rfc7946
from tests.geo.drawn import CORNER, drawn_pair, run_scenes, write, write_mask

SIDE, GSD = 4096, 0.5
PLACES = [(700, 2900), (2000, 1500), (3000, 3300), (3500, 900)]  # row, column of what is built
BUILT = 120  # pixels of its side
CLOUDS = [(1300, 700, 400), (2400, 2600, 250)]  # row, column, radius


@pytest.fixture(scope="module")
def ground() -> np.ndarray:
    """Drawn ground: 16 synthetic scenes, repeated."""
    return np.tile(drawn_pair(4)[0], (SIDE // 1024, SIDE // 1024, 1))


@pytest.fixture(scope="module")
def after(ground, tmp_path_factory):
    """The later date. What was built is bright, and so are the clouds, which are masked."""
    pixels = ground.copy()
    for row, column in PLACES:
        pixels[row : row + BUILT, column : column + BUILT] = 250
    rows, columns = np.ogrid[:SIDE, :SIDE]
    cloudy = np.any([np.hypot(rows - y, columns - x) < radius for y, x, radius in CLOUDS], axis=0)
    pixels[cloudy] = 250
    path = write(tmp_path_factory.mktemp("made") / "after_2021-06-01.tif", pixels, gsd=GSD, compress="deflate")
    write_mask(path, ~cloudy)
    return path


def earlier(path, ground: np.ndarray, shift: float):
    """The earlier date: 0.4 m in the next UTM zone, 320 m narrower, moved right by ``shift`` pixels of the later."""
    here = rasterio.Affine(GSD, 0, CORNER[0] + shift * GSD, 0, -GSD, CORNER[1])
    bounds = rasterio.transform.array_bounds(SIDE, SIDE, here)
    there, width, height = calculate_default_transform("EPSG:32633", "EPSG:32632", SIDE, SIDE, *bounds, resolution=0.4)
    wedge = np.tril(np.ones((SIDE, SIDE), bool), -SIDE // 2 - 1000)  # at the lower left
    pixels = np.zeros((3, height, width), np.uint8)
    reproject(
        np.where(wedge[..., None], 0, np.maximum(ground, 1)).transpose(2, 0, 1),
        pixels,
        src_transform=here,
        src_crs="EPSG:32633",
        src_nodata=0,
        dst_transform=there,
        dst_crs="EPSG:32632",
        dst_nodata=0,
        resampling=Resampling.bilinear,
    )
    return write(path, pixels[:, :, : width - 800].transpose(1, 2, 0), transform=there, crs="EPSG:32632", nodata=0)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # half a minute on an idle machine
@pytest.mark.parametrize(("shift", "moved"), [(0.5, None), (3.0, "auto")])
def test_changes_are_found_at_their_places_despite_all_differences(ground, after, tmp_path, shift, moved):
    before = earlier(tmp_path / "before_2019-05-01.tif", ground, shift)

    record, rows = run_scenes([before, after], tmp_path / "out", tile=256, shift=moved)

    assert record["grid"]["crs"] == "EPSG:32633" and record["resampling"] == ["bilinear", "none"]
    assert record["grid"]["size"][0] < SIDE and 0.8 < record["overlap_of_dates"] <= 1
    [found] = record["registration"]
    assert (found["right"], found["down"]) == pytest.approx((-shift, 0), abs=0.25)
    assert any("is moved by -3.0" in warning for warning in record["warnings"]) == (moved == "auto")
    assert record["counts"][SKIPPED] > 3 and record["counts"][DONE] + record["counts"][SKIPPED] == len(rows)

    x, y = zip(*(((column * GSD + CORNER[0]), CORNER[1] - row * GSD) for row, column in PLACES), strict=True)
    size = BUILT * GSD
    truth = [shapely.box(left, top - size, left + size, top) for left, top in zip(x, y, strict=True)]
    meta, _, geometry, columns = read(tmp_path / "out" / "changes.gpkg", layer="changes")
    shapes = shapely.from_wkb(geometry)
    assert len(shapes) == len(truth)  # so neither the clouds nor the wedge are among them
    for place in truth:
        [shape] = [one for one in shapes if one.intersects(place)]
        assert shape.intersection(place).area / shape.union(place).area > 0.6
        assert np.hypot(shape.centroid.x - place.centroid.x, shape.centroid.y - place.centroid.y) < 8  # half a patch
    sizes = columns[list(meta["fields"]).index("area_m2")]
    assert sum(sizes) == pytest.approx(sum(area(shape, CRS("EPSG:32633")) for shape in shapes), rel=1e-3)

    with rasterio.open(tmp_path / "out" / "change.tif") as file:
        change = file.read(1)
        assert file.overviews(1) and np.isnan(change).mean() > 0.05
        for row, column, _ in CLOUDS:
            assert np.isnan(change[file.index(CORNER[0] + column * GSD, CORNER[1] - row * GSD)])
    geojson = json.loads((tmp_path / "out" / "tiles.geojson").read_text())
    rfc7946.check(geojson)
    assert len(geojson["features"]) == len(rows) == record["tiles"]["in the run"]
