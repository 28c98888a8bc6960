"""The rules of RFC 7946 for a file of polygons. The numbers are its sections."""

import math


def check(content: dict) -> None:
    """Assert that a FeatureCollection of polygons follows them."""
    assert content["type"] == "FeatureCollection" and isinstance(content["features"], list)  # 3.3
    assert not {"crs", "coordinates", "geometry", "properties"} & content.keys()  # 4, 7.1
    for feature in content["features"]:
        assert feature["type"] == "Feature" and isinstance(feature["properties"], dict | None)  # 3.2
        assert not {"crs", "coordinates", "features"} & feature.keys()
        geometry = feature["geometry"]
        assert geometry.keys() == {"type", "coordinates"} and geometry["type"] in ("Polygon", "MultiPolygon")
        polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
        assert polygons
        for exterior, *holes in polygons:
            check_ring(exterior)
            assert signed_area(exterior) > 0  # 3.1.6: exteriors are counterclockwise, holes clockwise
            for hole in holes:
                check_ring(hole)
                assert signed_area(hole) < 0


def check_ring(ring: list) -> None:
    assert len(ring) >= 4 and ring[0] == ring[-1]  # 3.1.6
    for position in ring:
        assert len(position) in (2, 3) and all(math.isfinite(value) for value in position)  # 3.1.1
        assert -180 <= position[0] <= 180 and -90 <= position[1] <= 90  # 4
    assert max(x for x, *_ in ring) - min(x for x, *_ in ring) < 180  # 3.1.9: cut at the 180th meridian


def signed_area(ring: list) -> float:
    """Twice the area in square degrees, positive for a counterclockwise ring; relative to its first position."""
    x0, y0 = ring[0][:2]
    points = [(x - x0, y - y0) for x, y, *_ in ring]
    return sum(x * v - u * y for (x, y), (u, v) in zip(points, points[1:], strict=False))
