"""tiles.geojson follows RFC 7946, also where a scene crosses the 180th meridian."""

import json

import pytest
import shapely
from affine import Affine
from pyproj import Transformer

from btcchat.errors import BTCChatError
from btcchat.geo.projection import LONLAT, area
from tests.geo import rfc7946
from tests.geo.drawn import picture, run_scenes, write


def place(crs: str, lon: float, lat: float, right: float = 0.0, down: float = 0.0) -> dict:
    """Where to write a scene of 1 m, with its corner some metres right and down of a place."""
    if crs == "EPSG:4326":
        return {"crs": crs, "gsd": 1e-5, "corner": (lon, lat)}
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    return {"crs": crs, "gsd": 1.0, "corner": (x + right, y - down)}


@pytest.mark.parametrize(
    ("crs", "lon"), [("EPSG:32760", 179.999), ("EPSG:32701", 179.999), ("EPSG:4326", 179.999), ("EPSG:4326", -180.001)]
)
def test_tiles_on_both_sides_of_the_180th_meridian_are_cut_there(tmp_path, crs, lon):
    scene = write(tmp_path / "fiji.tif", picture(256), **place(crs, lon, -17.0))  # 110 m before the meridian
    other = write(tmp_path / "other.tif", picture(256), **place("EPSG:32701", 179.999, -17.0))
    record, _ = run_scenes([scene, other], tmp_path / "other way", shift="ignore")
    assert record["counts"]["done"] == 9
    record, _ = run_scenes([scene, scene], tmp_path / "out")
    assert record["counts"]["done"] == 9
    content = json.loads((tmp_path / "out" / "tiles.geojson").read_text())
    rfc7946.check(content)
    kinds = {feature["geometry"]["type"] for feature in content["features"]}
    assert "MultiPolygon" in kinds
    for feature in content["features"]:
        shape, found = shapely.from_geojson(json.dumps(feature["geometry"])), feature["properties"]
        assert sum(area(part, LONLAT) for part in shapely.get_parts(shape)) == pytest.approx(found["area_m2"], rel=1e-3)
        assert abs(found["longitude"]) > 179.99


@pytest.mark.parametrize(("crs", "kinds"), [("EPSG:32661", {"Polygon", "MultiPolygon"}), ("EPSG:3413", {"Polygon"})])
def test_tiles_beside_a_pole_have_their_true_outlines(tmp_path, crs, kinds):
    """The nearest is a side from the pole; those of the first CRS are on the 180th meridian."""
    scene = write(tmp_path / "a.tif", picture(256), **place(crs, 0.0, 90.0, right=-128, down=-384))
    run_scenes([scene, scene], tmp_path / "out", min_valid=0)
    content = json.loads((tmp_path / "out" / "tiles.geojson").read_text())
    rfc7946.check(content)
    assert {feature["geometry"]["type"] for feature in content["features"]} == kinds
    for feature in content["features"]:
        shape, found = shapely.from_geojson(json.dumps(feature["geometry"])), feature["properties"]
        assert sum(area(part, LONLAT) for part in shapely.get_parts(shape)) == pytest.approx(found["area_m2"], rel=2e-3)


@pytest.mark.parametrize(
    ("crs", "lat", "name"),
    [("EPSG:32661", 90.0, "north"), ("EPSG:3413", 90.0, "north"), ("EPSG:32761", -90.0, "south")],
)
def test_a_grid_around_a_pole_gives_one_line(tmp_path, crs, lat, name):
    scene = write(tmp_path / "a.tif", picture(256), **place(crs, 0.0, lat, right=-128, down=-128))
    with pytest.raises(BTCChatError, match=f"the grid contains the {name} pole, .*; give an --aoi beside it") as raised:
        run_scenes([scene, scene], tmp_path / "out")
    assert len(str(raised.value)) <= 300 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "profile",
    [
        {"crs": "EPSG:3857", "gsd": 1.0, "corner": (20_037_508.34 - 100, -1_920_000)},  # ends 156 m beyond 180 degrees
        {"crs": "EPSG:4326", "transform": Affine(360 / 256, 0, -180, 0, -180 / 256, 90)},  # the whole Earth
    ],
)
def test_a_scene_beyond_its_coordinate_system_gives_one_line(tmp_path, profile):
    scene = write(tmp_path / "a.tif", picture(256), **profile)
    with pytest.raises(BTCChatError, match="leaves the area for which its coordinate system or the grid's") as raised:
        run_scenes([scene, scene], tmp_path / "out")
    assert len(str(raised.value)) <= 300 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(crs={"type": "name"}),
        lambda content: content["features"][0]["geometry"]["coordinates"][0].reverse(),
        lambda content: content["features"][0]["geometry"]["coordinates"][0].pop(),
        lambda content: content["features"][0]["geometry"]["coordinates"][0][1].extend([0, 0]),
        lambda content: content["features"][0]["geometry"]["coordinates"][0][1].__setitem__(0, 190),
        lambda content: content["features"][0]["geometry"]["coordinates"][0][1].__setitem__(0, -179),
    ],
)
def test_the_check_of_rfc_7946_finds_violations(change):
    ring = [[13, 42], [14, 42], [14, 43], [13, 43], [13, 42]]
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    content = {"type": "FeatureCollection", "features": [feature]}
    rfc7946.check(content)
    change(content)
    with pytest.raises(AssertionError):
        rfc7946.check(content)
