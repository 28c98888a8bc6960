"""tiles.geojson follows RFC 7946, also where a scene crosses the 180th meridian."""

import json

import pytest
import shapely
from pyproj import Transformer

from btcchat.geo.projection import LONLAT, area
from tests.geo import rfc7946
from tests.geo.drawn import picture, run_scenes, write


@pytest.mark.parametrize("crs", ["EPSG:32760", "EPSG:32701", "EPSG:4326"])
def test_tiles_on_both_sides_of_the_180th_meridian_are_cut_there(tmp_path, crs):
    place = {
        "crs": crs,
        "gsd": 1.0,
        "corner": Transformer.from_crs(4326, crs, always_xy=True).transform(179.999, -17.0),
    }
    if crs == "EPSG:4326":
        place = {"crs": crs, "gsd": 1e-5, "corner": (179.999, -17.0)}  # 110 m before the meridian
    scene = write(tmp_path / "fiji.tif", picture(256), **place)
    run_scenes([scene, scene], tmp_path / "out")
    content = json.loads((tmp_path / "out" / "tiles.geojson").read_text())
    rfc7946.check(content)
    kinds = {feature["geometry"]["type"] for feature in content["features"]}
    assert "MultiPolygon" in kinds
    for feature in content["features"]:
        shape, found = shapely.from_geojson(json.dumps(feature["geometry"])), feature["properties"]
        assert sum(area(part, LONLAT) for part in shapely.get_parts(shape)) == pytest.approx(found["area_m2"], rel=1e-3)
        assert abs(found["longitude"]) > 179.99


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
