"""Real scenes, and drawn ones with the packaged model."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from pyproj import Transformer

from btcchat.eval.maps.masks import changed_pixels
from tests.geo.drawn import CORNER, drawn_pair, run_command, write


def test_the_norcia_pair_runs_in_utm_with_a_shared_stretch(shared, tmp_path, stub, capsys):
    folder = shared / "data" / "samples" / "oscd_norcia_geotiff"
    dates = [[folder / f"t{date}_B0{band}.tif" for band in (4, 3, 2)] for date in (1, 2)]
    words = ["--before", *dates[0], "--after", *dates[1], "--aoi", folder / "norcia.geojson", "--tile", 128]
    assert run_command(*words, "--out", tmp_path / "out", "--dates", "2015-06-01", "2017-06-01") == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["grid"]["crs"] == "EPSG:32633" and record["grid"]["gsd"] == pytest.approx(10.3, abs=0.1)
    assert record["ranges"][0] == record["ranges"][1] and record["registration"][0]["right"] is not None
    assert any("the model was trained on 0.5 m" in warning for warning in record["warnings"])
    with rasterio.open(tmp_path / "out" / "change.tif") as file:
        lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(
            *file.xy(file.height / 2, file.width / 2)
        )
    pixel = 0.5 * 10.3 / 111_000  # half a pixel in degrees
    assert abs(lon - (13.0720997 + 13.1137276) / 2) < 3 * pixel and abs(lat - (42.7807873 + 42.8068622) / 2) < 3 * pixel


def test_a_projected_scene_against_itself_has_not_changed(shared, tmp_path, stub):
    scene = shared / "data" / "samples" / "rasterio_RGB.byte.tif"
    assert run_command(scene, scene, "--out", tmp_path / "out", "--min-valid", 0.3) == 0
    with rasterio.open(tmp_path / "out" / "change.tif") as file:
        assert file.crs.to_epsg() == 32618 and np.nanmax(file.read(1)) == 0


SIDE = 4  # tiles of a side of a scene of LEVIR-CD


def levir_tiles(shared, scene: int, kind: str) -> list[Path]:
    """The 16 tiles of a scene of LEVIR-CD, row by row. They are numbered through all scenes, from 1."""
    folder = shared / "data" / "levir_cc_subset" / "images" / "val" / kind
    first = SIDE * SIDE * (scene - 1) + 1
    return [next(folder.glob(f"*{number:06d}.*")) for number in range(first, first + SIDE * SIDE)]


def assembled(tiles: list[np.ndarray]) -> np.ndarray:
    rows = [np.concatenate(tiles[SIDE * row : SIDE * (row + 1)], axis=1) for row in range(SIDE)]
    return np.concatenate(rows, axis=0)


def levir_scene(shared, scene: int, kind: str) -> np.ndarray:
    """The scene put together again, (1024, 1024, 3)."""
    return assembled([np.asarray(Image.open(path).convert("RGB")) for path in levir_tiles(shared, scene, kind)])


def test_a_reassembled_levir_scene_has_its_changes_where_its_mask_has_them(shared, tmp_path, stub):
    """The place is made up. The mask is painted over the real image, because the stub looks at grey levels only."""
    before, changed = levir_scene(shared, 30, "A"), levir_scene(shared, 30, "label").max(axis=2) > 0
    after = np.where(changed[..., None], 255 - before // 4, before)
    paths = [
        write(tmp_path / f"{year}.tif", pixels) for year, pixels in zip((2002, 2018), (before, after), strict=True)
    ]
    assert run_command(*paths, "--out", tmp_path / "out", "--threshold", 0.2) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["counts"]["done"] == 25 and [date["date"] for date in record["dates"]] == ["2002", "2018"]
    with rasterio.open(tmp_path / "out" / "change.tif") as file:
        found = file.read(1) > 0.2
    assert iou(found, changed) > 0.4
    assert record["changes"]["area_m2"] == pytest.approx(0.25 * found.sum(), rel=0.05)


def iou(found: np.ndarray, changed: np.ndarray) -> float:
    return float((found & changed).sum() / (found | changed).sum())


@pytest.mark.slow
@pytest.mark.parametrize("scene", [29, 30, 31])
def test_the_iou_of_a_real_scene_is_that_of_its_tiles_one_by_one(shared, tmp_path, scene, tiny):
    """The packaged model knows only drawn scenes, so no score is required, except that of the single tiles."""
    dates = ((2002, "A"), (2018, "B"))
    paths = [write(tmp_path / f"{year}.tif", levir_scene(shared, scene, kind)) for year, kind in dates]
    words = ["--overlap", 0, "--min-change", 1, "--shift", "ignore", "--device", "cpu", "--dtype", "float32"]
    assert run_command(*paths, "--out", tmp_path / "out", *words) == 0
    threshold = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["threshold"]
    with rasterio.open(tmp_path / "out" / "change.tif") as file:
        found = file.read(1) > threshold
    of_scene = iou(found, levir_scene(shared, scene, "label").max(axis=2) > 0)

    hits = union = 0
    for before, after, mask in zip(*(levir_tiles(shared, scene, kind) for kind in ("A", "B", "label")), strict=True):
        alone, changed = tiny.change_map(before, after) > threshold, changed_pixels(mask)
        hits, union = hits + (alone & changed).sum(), union + (alone | changed).sum()
    assert hits > 0 and of_scene == pytest.approx(hits / union, abs=1e-3)  # maps of a run are stored as float16


@pytest.mark.slow
def test_the_packaged_model_finds_drawn_changes_and_summarizes(tmp_path, capsys):
    before, after, mask = drawn_pair(2)
    paths = [write(tmp_path / "b_2019.tif", before), write(tmp_path / "a_2020.tif", after)]
    assert run_command(*paths, "--out", tmp_path / "out", "--max-new-tokens", 40, "--summarize") == 0
    assert "with new buildings" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["summary_by_model"] or "could not be summarised" in record["warnings"][-1]
    with rasterio.open(tmp_path / "out" / "change.tif") as file:
        found = file.read(1) > 0.2314
    assert (found & mask).sum() / (found | mask).sum() > 0.35
    assert file.bounds.left == CORNER[0]
