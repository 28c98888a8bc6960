"""``btcchat scenes``: its flags, its exit codes, real scenes, and the packaged model."""

import json
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from PIL import Image
from pyproj import Transformer

from btcchat import cli
from btcchat.commands import scenes_run
from tests.geo.drawn import CORNER, picture, write
from tests.geo.stub import StubModel


@pytest.fixture
def stub(monkeypatch):
    model = StubModel()
    monkeypatch.setattr(scenes_run.Loader, "__call__", lambda self: model)
    return model


def run(*words) -> int:
    return cli.main(["scenes", *map(str, words)])


def test_a_pair_is_done_and_said_in_words(pair, tmp_path, stub, capsys):
    assert run(*pair, "--out", tmp_path / "out", "--tile", 128, "--threshold", 0.2) == 0
    captured = capsys.readouterr()
    assert "with new buildings, in the north-west" in captured.out and "report.html shows them" in captured.err
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["model"]["path"] == "tiny" and len(record["model"]["fingerprint"]) == 64


def test_a_dry_run_prints_the_plan_and_writes_nothing(pair, tmp_path, stub, capsys):
    before = set(tmp_path.iterdir())
    assert run(*pair, "--tile", 128, "--dry-run") == 0
    text = capsys.readouterr().out
    assert "grid: EPSG:32633, 384 x 384 pixels of 0.5 m (0.1 megapixels)" in text
    assert "tiles: 16 of 128 x 128 pixels (64 m)" in text and "expected time: about" in text
    assert set(tmp_path.iterdir()) == before


def test_a_list_of_scenes_does_what_can_be_done(pair, tmp_path, stub, capsys):
    text = f"before,after,id\n{pair[0].name},{pair[1].name},good\n{pair[0].name},missing.tif,bad\n"
    (tmp_path / "scenes.csv").write_text(text)
    assert run("--list", tmp_path / "scenes.csv", "--out", tmp_path / "runs", "--tile", 128) == 3
    captured = capsys.readouterr()
    assert "scenes.csv row 3: image" in captured.err and captured.out.startswith(f"{tmp_path / 'runs' / 'good'}:\n")
    assert (tmp_path / "runs" / "good" / "change.tif").is_file() and not (tmp_path / "runs" / "bad").exists()
    map_before = (tmp_path / "runs" / "good" / "change.tif").read_bytes()
    assert run("--list", tmp_path / "scenes.csv", "--out", tmp_path / "runs", "--tile", 128, "--resume") == 3
    assert (tmp_path / "runs" / "good" / "change.tif").read_bytes() == map_before
    (tmp_path / "scenes.csv").write_text("before,after,id\na,b,../evil\n")
    assert run("--list", tmp_path / "scenes.csv", "--out", tmp_path / "runs") == 2


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("{a}",), "got 1 scene; a run needs 2"),
        (("{a}", "{b}", "--tile", 9999), "--tile is 9999, expected"),
        (("{a}", "{b}", "--shift", "much"), "--shift much: expected auto, ignore or RIGHT,DOWN"),
        (("{a}", "{b}", "--crs", "EPSG:4326"), "--crs EPSG:4326 is measured in degrees"),
        (("{a}", "{b}", "--crs", "nonsense"), "--crs nonsense: not a coordinate system"),
        (("{a}", "{b}", "--dates", "2019"), "got 1 date for 2 scenes"),
        (("--before", "{a}"), "give the scenes in one way"),
        (("{a}", "{b}", "--aoi", "none.geojson"), "area 'none.geojson' not found"),
        (("https://example.org/a.tif", "{b}"), "--allow-remote"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(pair, tmp_path, stub, capsys, words, fault):
    words = [str(word).format(a=pair[0], b=pair[1]) for word in words]
    assert run(*words, "--out", tmp_path / "out") == 2
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("btcchat: error: ") for line in lines) == 1 and fault in "\n".join(lines)
    assert not (tmp_path / "out").exists()


def test_tiles_that_fail_are_exit_code_3(pair, tmp_path, stub, capsys):
    path = write(tmp_path / "bad.tif", picture(), compress="deflate")
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_2_2", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[offset : offset + 200] = b"\xff" * 200
    path.write_bytes(data)
    assert run(pair[0], path, "--out", tmp_path / "out", "--tile", 128, "--shift", "ignore") == 3
    assert "tile 15: image" in capsys.readouterr().err
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_missing_package_is_named_with_its_extra(pair, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pyproj" else True)
    assert run(*pair, "--out", "out") == 2
    assert 'pip install "btcchat[geo]"' in capsys.readouterr().err


CHILD = """
import sys
from tests.geo.stub import StubModel
from btcchat import cli
from btcchat.commands import scenes_run
scenes_run.Loader.__call__ = lambda self: StubModel()
sys.exit(cli.main(["scenes", *sys.argv[1:]]))
"""


def child(*words, prefix=(), **options):
    command = [*prefix, sys.executable, "-c", CHILD, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_a_disk_that_fills_up_is_exit_code_2_and_the_run_can_be_resumed(pair, tmp_path):
    def full():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    words = [*pair, "--out", tmp_path / "out", "--tile", "128"]
    code, error = child(*words, preexec_fn=full)
    assert code == 2 and "cannot be written: " in error and "; make room, then run again with --resume" in error
    assert child(*words, "--resume")[0] == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "finished"


def test_a_folder_that_may_not_be_written_is_exit_code_2(pair, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    prefix = () if os.geteuid() else ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    code, error = child(*pair, "--out", tmp_path / "locked" / "out", "--tile", "128", prefix=prefix)
    assert code == 2 and "cannot be written: Permission denied" in error


def test_the_norcia_pair_runs_in_utm_with_a_shared_stretch(shared, tmp_path, stub, capsys):
    folder = shared / "data" / "samples" / "oscd_norcia_geotiff"
    dates = [[folder / f"t{date}_B0{band}.tif" for band in (4, 3, 2)] for date in (1, 2)]
    words = ["--before", *dates[0], "--after", *dates[1], "--aoi", folder / "norcia.geojson", "--tile", 128]
    assert run(*words, "--out", tmp_path / "out", "--dates", "2015-06-01", "2017-06-01") == 0
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
    assert run(scene, scene, "--out", tmp_path / "out", "--min-valid", 0.3) == 0
    with rasterio.open(tmp_path / "out" / "change.tif") as file:
        assert file.crs.to_epsg() == 32618 and np.nanmax(file.read(1)) == 0


def levir_scene(shared, number: int, kind: str) -> np.ndarray:
    """A scene of LEVIR-CD put together again from its 16 tiles: (1024, 1024, B)."""
    folder = shared / "data" / "levir_cc_subset" / "images" / "val" / kind

    def tile(row: int, column: int) -> np.ndarray:
        [path] = folder.glob(f"*{16 * (number - 1) + 4 * row + column + 1:06d}.*")
        return np.asarray(Image.open(path).convert("RGB"))

    return np.concatenate([np.concatenate([tile(row, column) for column in range(4)], axis=1) for row in range(4)])


def test_a_scene_of_levir_put_together_again_has_its_changes_where_its_mask_has_them(shared, tmp_path, stub):
    """Of a made-up place. What the mask has is painted over the real image, as the stub looks at grey levels alone."""
    before, changed = levir_scene(shared, 30, "A"), levir_scene(shared, 30, "label")[..., 0] > 127
    after = np.where(changed[..., None], 255 - before // 4, before)
    paths = [
        write(tmp_path / f"{year}.tif", pixels) for year, pixels in zip((2002, 2018), (before, after), strict=True)
    ]
    assert run(*paths, "--out", tmp_path / "out", "--threshold", 0.2) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["counts"]["done"] == 25 and [date["date"] for date in record["dates"]] == ["2002", "2018"]
    with rasterio.open(tmp_path / "out" / "change.tif") as file:
        found = file.read(1) > 0.2
    assert (found & changed).sum() / (found | changed).sum() > 0.4
    assert record["changes"]["area_m2"] == pytest.approx(0.25 * found.sum(), rel=0.05)


@pytest.mark.slow
def test_the_packaged_model_finds_drawn_changes(tmp_path, capsys):
    from tests.geo.drawn import drawn_pair

    before, after, mask = drawn_pair(2)
    paths = [write(tmp_path / "b_2019.tif", before), write(tmp_path / "a_2020.tif", after)]
    assert run(*paths, "--out", tmp_path / "out", "--max-new-tokens", 40) == 0
    assert "with new buildings" in capsys.readouterr().out
    with rasterio.open(tmp_path / "out" / "change.tif") as file:
        found = file.read(1) > 0.2314
    assert (found & mask).sum() / (found | mask).sum() > 0.35
    assert file.bounds.left == CORNER[0]
