"""Whole runs: validity, stretch, registration, resuming, and faulty inputs."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyogrio.raw import write as write_layer
from pyproj import Transformer
from rasterio.warp import transform_bounds

from btcchat.errors import BTCChatError
from btcchat.geo.inputs import find_files
from btcchat.geo.log import TileLog
from btcchat.geo.plan import Plan
from btcchat.geo.rows import DONE, FAILED, SKIPPED
from btcchat.geo.scene_run import SceneRun
from btcchat.geo.settings import Settings
from btcchat.outputs.lock import beside
from tests.geo.drawn import CORNER, FACTS, UTM, first_line, picture, run_scenes, write, write_mask
from tests.geo.stub import StubModel

FILES = {"tiles.jsonl", "tiles.geojson", "tiles.gpkg", "change.tif", "changes.gpkg", "report.html", "run.json"}


def contents(out):
    """The results that an interruption must not change."""
    with rasterio.open(out / "change.tif") as file:
        pixels = file.read(1)
    return (out / "tiles.geojson").read_text(), pixels


def test_all_valid_tiles_are_done_and_the_files_are_there(pair, tmp_path):
    model = StubModel()
    record, rows = run_scenes(pair, tmp_path / "out", model=model)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert record["status"] == "finished" and record["counts"] == {DONE: 16, SKIPPED: 0, FAILED: 0}
    assert len(rows) == len(model.questions) == 16 and record["warnings"] == []
    stored = json.loads((tmp_path / "out" / "run.json").read_text())
    assert stored == {"made_by": "btcchat scenes", **json.loads(json.dumps(record))}
    assert not beside(tmp_path / "out").exists()


def test_run_json_is_enough_to_repeat_the_run(pair, tmp_path):
    first, _ = run_scenes(pair, tmp_path / "one", questions=("How many?",), min_change=0.01, overlap=0.25, gsd=0.6)
    stored = json.loads((tmp_path / "one" / "run.json").read_text())
    names = stored["settings"].keys() & vars(Settings()).keys() - {"generation"}
    settings = {name: stored["settings"][name] for name in names}
    files, dates = ([date[name] for date in stored["dates"]] for name in ("files", "date"))
    again, _ = run_scenes(files, tmp_path / "two", dates=dates, **settings)
    assert again["settings_hash"] == first["settings_hash"]


def test_a_resumed_run_equals_an_uninterrupted_one(pair, tmp_path):
    run_scenes(pair, tmp_path / "whole", batch_size=3)
    with pytest.raises(KeyboardInterrupt):
        run_scenes(pair, tmp_path / "out", model=StubModel(stop_after=2), batch_size=3)
    log = tmp_path / "out" / "tiles.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:4]) + lines[4][:50])  # as a kill in the middle of a write leaves it
    for name in (".change.123.part", ".change.tif.123.part.ovr.tmp", ".tiles.gpkg.123.part-journal"):
        (tmp_path / "out" / name).touch()  # GDAL's and SQLite's, beside the file that they write
    model = StubModel()
    _, rows = run_scenes(pair, tmp_path / "out", model=model, resume=True, batch_size=3)
    assert len(rows) == 12 and model.calls == 5  # of the second batch one tile was there
    for ours, whole in zip(contents(tmp_path / "out"), contents(tmp_path / "whole"), strict=True):
        assert np.array_equal(ours, whole, equal_nan=True) if isinstance(ours, np.ndarray) else ours == whole
    assert not list((tmp_path / "out").glob(".*"))


def test_a_folder_of_anything_else_is_left_alone(pair, tmp_path):
    out = tmp_path / "out"
    run_scenes(pair, out)
    with pytest.raises(BTCChatError, match="continue it with --resume"):
        run_scenes(pair, out)
    different = (
        r"another model or other settings \(different: tile, questions\); use the same ones to resume it, or give"
    )
    with pytest.raises(BTCChatError, match=different):
        run_scenes(pair, out, resume=True, tile=64, questions=("another?",))
    with pytest.raises(BTCChatError, match=r"\(different: dates\)"):
        run_scenes(pair[::-1], out, resume=True)
    run_scenes([os.path.relpath(path) for path in pair], out, resume=True)
    os.utime(pair[0], ns=(1, 1))
    with pytest.raises(BTCChatError, match=r"\(different: the scenes have been written since\)"):
        run_scenes(pair, out, resume=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(BTCChatError, match="has other files in it"):
        run_scenes(pair, tmp_path / "mine", resume=True)
    with pytest.raises(BTCChatError, match="the folder of --out does not exist"):
        run_scenes(pair, tmp_path / "no" / "out")


def test_two_runs_at_once_are_refused(pair, tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from btcchat.outputs.lock import Lock, beside\n"
        f"with Lock(beside(Path({str(tmp_path / 'out')!r})), 'x'): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert first_line(other) == "held"
            with pytest.raises(BTCChatError, match=f"is being written by process {other.pid}"):
                run_scenes(pair, tmp_path / "out")
        finally:
            other.kill()
    assert not (tmp_path / "out").exists()


def test_tiles_without_valid_pixels_are_skipped_and_listed(pair, tmp_path):
    pixels = picture()
    pixels[:, :200] = 0
    wedge = write(tmp_path / "wedge.tif", pixels, nodata=0)
    record, rows = run_scenes([wedge, pair[1]], tmp_path / "out", min_valid=0.6)
    skipped = [row for row in rows if row["status"] == SKIPPED]
    assert record["counts"][SKIPPED] == len(skipped) == 8 and "valid in all dates" in skipped[0]["reason"]
    assert f"{len(skipped)} tiles skipped: too few valid pixels" in record["summary"]
    with rasterio.open(tmp_path / "out" / "change.tif") as file:
        change = file.read(1)
    assert np.isnan(change[:, :200]).all() and np.isfinite(change[:, 224:]).all()


@pytest.mark.parametrize("kind", ["rotated", "warped from degrees"])
def test_tiles_outside_an_intersection_that_is_not_a_rectangle_are_skipped_and_listed(tmp_path, kind):
    """The truth is found pixel by pixel, without the code for footprints."""
    if kind == "rotated":
        to_map = Affine.translation(CORNER[0] + 100, CORNER[1]) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)
        before = write(tmp_path / "a.tif", picture(400), transform=to_map)
    else:  # 3 degrees of longitude from the centre of the zone, north leans by 2.6 degrees
        to_map = Affine.translation(12.0, 60.0) @ Affine.scale(1.6e-5, -0.8e-5)
        before = write(tmp_path / "a.tif", picture(400), transform=to_map, crs="EPSG:4326")
    with rasterio.open(before) as file:
        left, _, _, top = transform_bounds(file.crs, UTM, *file.bounds)
    after = write(tmp_path / "b.tif", picture(1000), corner=(left - 20, top + 20))
    model = StubModel()
    record, rows = run_scenes(
        [before, after], tmp_path / "out", tile=64, overlap=0, min_valid=0.9, shift="ignore", model=model
    )
    rows = [json.loads(line) for line in (tmp_path / "out" / "tiles.jsonl").read_text().splitlines()]
    grid = Affine(*record["grid"]["transform"])
    columns = record["tiles"]["columns"]
    assert len(rows) == columns * record["tiles"]["rows"]  # each tile of the box around the intersection
    to_source = Transformer.from_crs(UTM, "EPSG:4326" if "degrees" in kind else UTM, always_xy=True)
    width, height = record["grid"]["size"]
    across, down = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    outside = 0
    for row in rows:
        down_tiles, across_tiles = divmod(row["tile"], columns)
        left, top = min(64 * across_tiles, width - 64), min(64 * down_tiles, height - 64)
        xs, ys = to_source.transform(*(grid @ (left + across.ravel(), top + down.ravel())))
        at = np.array(~to_map @ (np.asarray(xs), np.asarray(ys)))
        share = ((at >= 0) & (at <= 400)).all(axis=0).mean()
        assert row["valid"] == pytest.approx(share, abs=0.03)
        assert row["status"] == (DONE if row["valid"] >= 0.9 else SKIPPED)
        assert row["status"] == DONE or f"only {row['valid']:.0%} of its pixels are valid" in row["reason"]
        outside += share == 0
    assert (outside > 0) == (kind == "rotated") and record["counts"][SKIPPED] > outside
    assert len(model.questions) == record["counts"][DONE]


def test_the_edge_of_no_data_in_one_date_is_not_a_change(pair, tmp_path):
    pixels = picture()
    pixels[:, :200] = 0
    wedge = write(tmp_path / "wedge.tif", pixels, nodata=0)
    record, rows = run_scenes([wedge, write(tmp_path / "same.tif", picture())], tmp_path / "out", min_valid=0.1)
    assert any(0 < row["valid"] < 1 for row in rows if row["status"] == DONE) and record["changes"]["polygons"] == 0


@pytest.mark.parametrize(
    ("by", "profile"), [("no data", {"nodata": 0}), ("mask", {}), ("alpha", {"photometric": "RGB", "alpha": "YES"})]
)
def test_a_date_without_a_valid_pixel_gives_one_line(pair, tmp_path, by, profile):
    """All no data, or all clouds."""
    pixels = np.zeros((384, 384, 3), np.uint8) if by == "no data" else picture()
    if by == "alpha":
        pixels = np.dstack([pixels, np.zeros((384, 384), np.uint8)])
    empty = write(tmp_path / "empty.tif", pixels, **profile)
    if by == "mask":
        write_mask(empty, np.zeros((384, 384), bool))
    with pytest.raises(BTCChatError, match="empty.tif has no valid pixel where the dates overlap"):
        run_scenes([empty, pair[1]], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_block_fails_its_tiles_and_the_run_finishes(pair, tmp_path):
    path = write(tmp_path / "bad.tif", picture(), compress="deflate")
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_2_2", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[offset : offset + 200] = b"\xff" * 200
    path.write_bytes(data)
    record, rows = run_scenes([pair[0], path], tmp_path / "out", shift="ignore")
    failed = [row for row in rows if row["status"] == FAILED]
    assert len(rows) == 16 and 1 <= len(failed) < 8 and "truncated or damaged" in failed[0]["reason"]
    assert record["counts"][FAILED] == len(failed)


@pytest.mark.parametrize(("pixels", "moved"), [(0.5, False), (2.0, True)])
def test_a_shift_is_measured_and_nothing_is_moved_silently(pair, tmp_path, pixels, moved):
    off = write(tmp_path / "off.tif", picture(), corner=(CORNER[0] + pixels / 2, CORNER[1]))
    record, _ = run_scenes([off, pair[1]], tmp_path / "out")
    [found] = record["registration"]
    assert found["right"] == pytest.approx(-pixels, abs=0.15) and abs(found["down"]) < 0.15
    assert found["metres"] == pytest.approx(pixels / 2, abs=0.08) and record["shifts"] == [[0, 0], [0, 0]]
    assert any("it is not moved" in warning for warning in record["warnings"]) == moved


def test_above_three_pixels_the_user_must_choose(pair, tmp_path):
    off = write(tmp_path / "off.tif", picture(), corner=(CORNER[0] + 2.5, CORNER[1]))
    with pytest.raises(BTCChatError, match=r"5\.00 pixels = 2\.50 m off.*give --shift auto"):
        run_scenes([off, pair[1]], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    moved, _ = run_scenes([off, pair[1]], tmp_path / "auto", shift="auto")
    assert moved["shifts"][0] == pytest.approx([-5, 0], abs=0.1)
    assert any("is moved by -5.00" in warning for warning in moved["warnings"])
    given, _ = run_scenes([off, pair[1]], tmp_path / "given", shift="-5,0")
    left, _ = run_scenes([off, pair[1]], tmp_path / "left", shift="ignore")
    assert given["shifts"][0] == [-5, 0] and left["shifts"][0] == [0, 0]
    unchanged = []
    for name in ("auto", "given", "left"):
        with rasterio.open(tmp_path / name / "change.tif") as file:
            unchanged.append(float(np.nanmean(file.read(1)[200:, 200:])))
    assert max(unchanged[:2]) < 0.1 * unchanged[2]


def test_dates_of_8_and_16_bits_give_a_warning(tmp_path):
    pixels = picture()
    plain, deep = write(tmp_path / "a.tif", pixels), write(tmp_path / "b.tif", pixels.astype(np.uint16) * 100)
    record, _ = run_scenes([plain, deep], tmp_path / "out")
    assert [warning for warning in record["warnings"] if warning.startswith("a.tif has 8 bits and is shown as it is")]
    record, _ = run_scenes([deep, deep], tmp_path / "deep")
    assert record["warnings"] == []


def test_one_stretch_for_both_dates_is_in_the_record(tmp_path):
    values = picture().astype(np.uint16) * 12 + 300
    before, after = write(tmp_path / "a.tif", values), write(tmp_path / "b.tif", np.roll(values, 9, axis=0))
    record, _ = run_scenes([before, after], tmp_path / "out", shift="ignore")
    first, second = record["ranges"]
    assert first == second and 300 < first[0] < first[1] < 3400


def test_swapped_dates_and_different_band_counts_give_warnings(pair, tmp_path):
    four = write(tmp_path / "four_2022.tif", np.dstack([picture(), picture()[..., :1]]))
    record, _ = run_scenes([four, pair[1]], tmp_path / "out")
    assert any("give the earlier one first" in warning for warning in record["warnings"])
    assert "give the earlier one first" in (tmp_path / "out" / "report.html").read_text()
    assert any("have 4 and 3 bands and may come from different sensors" in warning for warning in record["warnings"])


def test_a_ground_sampling_distance_unlike_the_models_gives_a_warning(pair, tmp_path):
    from dataclasses import replace

    record, _ = run_scenes(pair, tmp_path / "out", facts=replace(FACTS, gsd=3.0))
    assert any("0.5 m per pixel, but the model was trained on 3 m" in warning for warning in record["warnings"])
    with pytest.raises(BTCChatError, match="has no change_threshold in its config.json; give --threshold"):
        run_scenes(pair, tmp_path / "other", facts=replace(FACTS, threshold=None))


def test_min_change_skips_captions_and_keeps_the_map(pair, tmp_path):
    model = StubModel()
    record, rows = run_scenes(pair, tmp_path / "out", model=model, min_change=0.05)
    captioned = [row for row in rows if row["pairs"][0]["caption"] is not None]
    assert 1 <= len(captioned) == len(model.questions) < 16
    assert all(row["pairs"][0]["change"] >= 0.05 for row in captioned)
    assert f"{16 - len(captioned)} tiles below --min-change, not captioned" in record["summary"]


def test_a_series_has_consecutive_pairs_and_first_to_last(pair, tmp_path):
    third = write(tmp_path / "last_2023-01-01.tif", picture())
    record, rows = run_scenes([*pair, third], tmp_path / "out", questions=("When?",))
    assert record["pairs"] == [[0, 2], [0, 1], [1, 2]]
    assert {"change.tif", "change_1_2.tif", "change_2_3.tif"} <= {path.name for path in (tmp_path / "out").iterdir()}
    first = json.loads((tmp_path / "out" / "tiles.geojson").read_text())["features"][0]["properties"]
    assert first["date_3"] == "2023-01-01" and first["change"] == 0 < first["change_1_2"]
    assert rows[0]["answers"] == ["When?"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("name=left") == 3 and "class=strip" in page
    assert "whichever dates are chosen here" in page
    assert "changes.gpkg, change.tif, change_1_2.tif, change_2_3.tif, run.json" in page


def test_only_tiles_in_the_area_of_interest_are_done(pair, tmp_path):
    from pyproj import Transformer

    x, y = CORNER[0] + 100, CORNER[1] - 100
    lonlat = Transformer.from_crs(32633, 4326, always_xy=True)
    area = tmp_path / "area.geojson"

    def triangle(*corners):
        ring = [lonlat.transform(x + dx, y + dy) for dx, dy in (*corners, corners[0])]
        area.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))

    triangle((-40, -40), (40, -40), (40, 40))
    record, rows = run_scenes(pair, tmp_path / "out", aoi=area)
    assert record["grid"]["size"][0] < 384 and 0 < len(rows) <= 4 and record["aoi"]["file"] == str(area)
    triangle((-40, -40), (0, -40), (40, 40), (40, -40))  # a corner more, of the same extent
    with pytest.raises(BTCChatError, match="has a run of other scenes, another model or other settings"):
        run_scenes(pair, tmp_path / "out", aoi=area, resume=True)
    area.write_text("{}")
    with pytest.raises(BTCChatError, match="--aoi .* has no readable polygons"):
        run_scenes(pair, tmp_path / "other", aoi=area)
    triangle((-10, -10), (10, -10), (10, 10))  # 40 pixels
    record, rows = run_scenes(pair, tmp_path / "small", aoi=area)
    assert record["grid"]["size"] == [128, 128] and len(rows) == 1
    left, top = record["grid"]["transform"][2], record["grid"]["transform"][5]
    assert abs(left + 32 - x) <= 1 and abs(top - 32 - y) <= 1  # the area is in the middle of the tile
    x, y = CORNER[0] + 5, CORNER[1] - 5
    triangle((-5, -5), (5, -5), (5, 5))  # in a corner of the scenes
    record, rows = run_scenes(pair, tmp_path / "corner", aoi=area)
    assert record["grid"]["size"] == [128, 128] and record["grid"]["transform"][2] == CORNER[0]


def test_an_area_of_interest_that_is_elsewhere_or_not_an_area_is_refused(pair, tmp_path):
    area = tmp_path / "area.geojson"
    ring = [[41.7, 13.0], [41.8, 13.0], [41.8, 13.1], [41.7, 13.0]]
    area.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    with pytest.raises(
        BTCChatError, match=r"--aoi \(around longitude 41.76.*, latitude 13.03.*\) is outside"
    ) as raised:
        run_scenes(pair, tmp_path / "out", aoi=area)
    assert "that longitude comes first" in str(raised.value) and len(str(raised.value)) <= 300
    table = tmp_path / "area.csv"
    table.write_text("x,y\n1,2\n")
    with pytest.raises(BTCChatError, match="area.csv has no polygon; give a file with at least one"):
        run_scenes(pair, tmp_path / "out", aoi=table)


def rectangle(west: float, south: float, east: float, north: float) -> list[list[list[float]]]:
    return [[[west, south], [east, south], [east, north], [west, north], [west, south]]]


def test_long_edges_of_an_area_of_interest_are_curves_on_the_grid(tmp_path):
    """In UTM, the parallel between the corners is 4 km south of the straight line between them."""
    x, y = Transformer.from_crs(4326, UTM, always_xy=True).transform(15.0, 60.01)
    scene = write(tmp_path / "a.tif", picture(256), corner=(x - 64, y + 64))
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps({"type": "Polygon", "coordinates": rectangle(12, 60, 18, 60.02)}))
    _, rows = run_scenes([scene, scene], tmp_path / "out", aoi=area)
    assert len(rows) == 9


def test_an_area_of_interest_may_have_parts_on_the_other_side_of_the_earth(pair, tmp_path):
    """Where UTM has no coordinates: France with its islands, or all land."""
    area = tmp_path / "area.geojson"
    parts = [rectangle(-160, -22, -150, 22), rectangle(13, 42.797, 13.2, 43)]
    area.write_text(json.dumps({"type": "MultiPolygon", "coordinates": parts}))
    record, rows = run_scenes(pair, tmp_path / "out", aoi=area)
    assert record["grid"]["size"] == [384, 200] and len(rows) == 8
    area.write_text(json.dumps({"type": "Polygon", "coordinates": rectangle(-180, -90, 180, 90)}))
    record, rows = run_scenes(pair, tmp_path / "all", aoi=area)
    assert record["grid"]["size"] == [384, 384] and len(rows) == 16


def test_the_polygons_of_a_collection_are_an_area_of_interest(pair, tmp_path):
    area = tmp_path / "area.geojson"

    def collection(*geometries):
        return {"type": "GeometryCollection", "geometries": list(geometries)}

    point = {"type": "Point", "coordinates": [13.1, 42.8]}
    land = {"type": "MultiPolygon", "coordinates": [rectangle(13, 42.797, 13.2, 43)]}
    area.write_text(json.dumps(collection(point, collection(land))))
    record, rows = run_scenes(pair, tmp_path / "out", aoi=area)
    assert record["grid"]["size"] == [384, 200] and len(rows) == 8
    empty = {"type": "Polygon", "coordinates": []}
    for nothing in (collection(), collection(point, collection(empty)), empty):
        area.write_text(json.dumps(nothing))
        with pytest.raises(BTCChatError, match="area.geojson has no polygon; give a file with at least one"):
            run_scenes(pair, tmp_path / "other", aoi=area)


def test_a_path_that_is_not_utf8_is_an_error_before_the_first_tile(pair, tmp_path):
    bad = tmp_path / os.fsdecode(b"k\xf6ln.geojson")
    with pytest.raises(BTCChatError, match=r"^--out .*: 'k\\udcf6ln.geojson' in its path is not UTF-8; rename it"):
        run_scenes(pair, bad)
    assert not bad.exists()
    bad.write_text(json.dumps({"type": "Polygon", "coordinates": rectangle(13, 42.797, 13.2, 43)}))
    with pytest.raises(BTCChatError, match=r"^--aoi .*: 'k\\udcf6ln.geojson' in its path is not UTF-8; rename it"):
        run_scenes(pair, tmp_path / "out", aoi=bad)


def test_an_area_of_interest_is_one_layer(pair, tmp_path):
    run_scenes(pair, tmp_path / "out")  # its tiles.gpkg has a layer and a table of styles
    area = tmp_path / "out" / "tiles.gpkg"
    with warnings.catch_warnings(action="error"):
        _, rows = run_scenes(pair, tmp_path / "again", aoi=area)
    assert len(rows) == 16
    shape = np.array([shapely.to_wkb(shapely.box(*CORNER, CORNER[0] + 10, CORNER[1] - 10))], dtype=object)
    write_layer(area, shape, [], [], layer="more", driver="GPKG", geometry_type="Polygon", crs=UTM, append=True)
    with pytest.raises(BTCChatError, match="--aoi .* has several layers: tiles, more; save the one you mean to a file"):
        run_scenes(pair, tmp_path / "other", aoi=area)


def test_a_model_summarizes_all_captions_if_they_fit(pair, tmp_path):
    run_scenes(pair, tmp_path / "out")
    with Plan([find_files(path) for path in pair], Settings(tile=128)) as plan:
        with SceneRun(plan, tmp_path / "out", FACTS, resume=True) as run:
            asked = []
            record = run.finish(lambda text: asked.append(text) or "Houses were built.")
            assert record["summary_by_model"] == "Houses were built." and "a house was built" in asked[0]
            assert "<li>summary by the model: Houses were built.</li>" in (tmp_path / "out" / "report.html").read_text()

            def too_long(text):
                raise BTCChatError("the prompt is too long")

            record = run.finish(too_long)
            assert record["summary_by_model"] is None and "could not be summarised" in record["warnings"][-1]


def test_rows_of_other_settings_and_of_anything_else_are_refused(tmp_path):
    with TileLog(tmp_path, "one") as log:
        log.append([{"tile": 3, "settings": "one", "status": DONE}])
        assert 3 in log and not log.append([{"tile": 3, "settings": "one", "status": FAILED}])
        assert log.row(3)["status"] == DONE
    with pytest.raises(BTCChatError, match="tiles of another model or other settings"):
        TileLog(tmp_path, "two")
    (tmp_path / "tiles.jsonl").write_text('{"caption": "a house"}\n')
    with pytest.raises(BTCChatError, match="does not hold the tiles of a run of scenes"):
        TileLog(tmp_path, "one")
