"""``btcchat scenes``: its flags and exit codes."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import rasterio

from btcchat.errors import BTCChatError
from btcchat.geo import scenes
from tests.geo.drawn import CORNER, picture, run_command, write
from tests.tiny import tiny_model


def test_a_pair_is_captioned_and_summarised(pair, tmp_path, stub, capsys):
    assert run_command(*pair, "--out", tmp_path / "out", "--tile", 128, "--threshold", 0.2) == 0
    captured = capsys.readouterr()
    assert "with new buildings, in the north-west" in captured.out and "report.html shows them" in captured.err
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["model"]["path"] == "tiny" and len(record["model"]["fingerprint"]) == 64


def test_a_dry_run_prints_the_plan_and_writes_nothing(pair, tmp_path, stub, capsys):
    before = set(tmp_path.iterdir())
    assert run_command(*pair, "--tile", 128, "--dry-run") == 0
    text = capsys.readouterr().out
    assert "grid: EPSG:32633, 384 x 384 pixels of 0.5 m (0.1 megapixels)" in text
    assert "bands shown: 1, 2, 3 of 3; 1, 2, 3 of 3\n" in text
    assert "overlap of the dates: 100% of the smaller one" in text
    assert "tiles: 16 of 128 x 128 pixels (64 m)" in text and "expected time: about" in text
    assert set(tmp_path.iterdir()) == before


def test_an_interrupt_is_reported_in_one_line_that_says_how_to_resume(pair, tmp_path, stub, capsys):
    stub.stop_after = 1
    words = [*pair, "--out", tmp_path / "out", "--tile", 128, "--threshold", 0.2, "--batch-size", 4]
    assert run_command(*words) == 130
    [line] = [line for line in capsys.readouterr().err.splitlines() if "interrupted" in line]
    assert line.startswith("btcchat: interrupted; the tiles in ") and "--resume" in line
    stub.stop_after = None
    assert run_command(*words, "--resume") == 0


def test_a_list_of_scenes_continues_after_a_bad_pair(pair, tmp_path, stub, capsys):
    text = f"before,after,id\n{pair[0].name},{pair[1].name},good\n{pair[0].name},missing.tif,bad\n"
    (tmp_path / "scenes.csv").write_text(text)
    assert run_command("--list", tmp_path / "scenes.csv", "--out", tmp_path / "runs", "--tile", 128) == 3
    captured = capsys.readouterr()
    assert "scenes.csv row 3: image" in captured.err and captured.out.startswith(f"{tmp_path / 'runs' / 'good'}:\n")
    assert (tmp_path / "runs" / "good" / "change.tif").is_file() and not (tmp_path / "runs" / "bad").exists()
    map_before = (tmp_path / "runs" / "good" / "change.tif").read_bytes()
    assert run_command("--list", tmp_path / "scenes.csv", "--out", tmp_path / "runs", "--tile", 128, "--resume") == 3
    assert (tmp_path / "runs" / "good" / "change.tif").read_bytes() == map_before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"before,after,id\na,b,../evil\n", "scenes.csv row 2: the id '../evil' cannot name a folder; use letters"),
        (b"before,after\na,b,c\n", "scenes.csv row 2: 3 cells, but the header has 2"),
        (b"before,after\n\na,\n", "scenes.csv row 3: no after; a pair needs before and after"),
        (b"before,after\n", "scenes.csv lists no pairs"),
        (
            b"before,after\nM\xfcnchen.tif,b.tif\n",
            "not UTF-8 near 'fore,after\\nM\\xfcnchen.tif,b.'; save it as CSV in UTF-8",
        ),
    ],
)
def test_a_list_without_a_usable_row_is_an_error(tmp_path, capsys, content, words):
    (tmp_path / "scenes.csv").write_bytes(content)
    assert run_command("--list", tmp_path / "scenes.csv", "--out", tmp_path / "runs") == 2
    error = capsys.readouterr().err
    assert words in error and not (tmp_path / "runs").exists()
    about_the_list = ["none of its rows can be used"] if " row " in words else []
    assert error.count("\n") == 1 + len(about_the_list) and all(one in error for one in about_the_list)


@pytest.mark.parametrize("form", ["\ufeffbefore;after;id\r\n{};{};x\r\n", "Before,After,ID\n {}, {}, x\n"])
def test_a_list_of_scenes_may_be_one_that_excel_wrote(pair, tmp_path, stub, capsys, form):
    (tmp_path / "scenes.csv").write_text(form.format(pair[0].name, pair[1].name), encoding="utf-8")
    assert run_command("--list", tmp_path / "scenes.csv", "--out", tmp_path / "runs", "--tile", 128) == 0
    assert (tmp_path / "runs" / "x" / "run.json").is_file()


def test_unusable_rows_of_a_list_of_scenes_are_named_and_the_others_run(pair, tmp_path, stub, capsys):
    good = f"{pair[0].name},{pair[1].name}"
    (tmp_path / "scenes.csv").write_text(f"before,after,id\na.tif,,\n{good},../evil\n{good},\n{good},2\n{good},2\n")
    assert run_command("--list", tmp_path / "scenes.csv", "--out", tmp_path / "runs", "--tile", 128) == 3
    errors = capsys.readouterr().err
    assert "scenes.csv row 2: no after" in errors and "row 3: the id '../evil' cannot name a folder" in errors
    assert "row 6: the id '2' is already used by scenes.csv row 5" in errors
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["2", "3"]  # row 4 has no id: pair 3


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("{a}",), "got 1 scene; a run needs 2"),
        (("{a}", "{b}", "--tile", 9999), "--tile is 9999, expected"),
        (("{a}", "{b}", "--shift", "much"), "--shift much: expected auto, ignore or RIGHT,DOWN"),
        (("{a}", "{b}", "--shift", "nan,1"), "--shift nan,1: expected auto, ignore or RIGHT,DOWN"),
        (("{a}", "{b}", "--ray-gpus", 1), "--ray-address and --ray-gpus are for --engine ray"),
        (("{a}", "{b}", "--dry-run", "--json"), "--dry-run runs nothing; leave one of them out"),
        (("{a}", "{b}", "--crs", "EPSG:4978"), "--crs EPSG:4978 is not a projected coordinate system"),
        (("{a}", "{b}", "--crs", "EPSG:4326"), "--crs EPSG:4326 is in degrees"),
        (("{a}", "{b}", "--crs", "nonsense"), "--crs nonsense: unknown coordinate system"),
        (("{a}", "{b}", "--dates", "2019"), "got 1 date for 2 scenes"),
        (("{a}", "{b}", "--gsd", 10000), "but a tile has 256 x 256; give a smaller --gsd"),
        (("{a}", "{b}", "--question", " "), "a --question is empty"),
        (("--before", "{a}"), "give the scenes in one way"),
        (("{a}", "{b}", "--aoi", "none.geojson"), "area 'none.geojson' not found"),
        (("https://example.org/a.tif", "{b}"), "--allow-remote"),
        (("{a}", "{elsewhere}"), "do not overlap; check that they show the same place"),
    ],
)
def test_bad_input_gives_one_line_and_nothing_is_written(pair, tmp_path, stub, capsys, words, fault):
    elsewhere = write(tmp_path / "elsewhere.tif", picture(), corner=(CORNER[0] + 5000, CORNER[1]))
    words = [str(word).format(a=pair[0], b=pair[1], elsewhere=elsewhere) for word in words]
    assert run_command(*words, "--out", tmp_path / "out") == 2
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("btcchat: error: ") for line in lines) == 1 and fault in "\n".join(lines)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "names",
    [
        ("T33TUH_20160822T095032_{}.tif", "B04", "B03", "B02"),
        ("LC08_L2SP_191031_20160822_20200906_02_T1_SR_{}.TIF", "B4", "B3", "B2"),
        ("{}.tif", "b8a", "B04", "B03"),
    ],
)
def test_bands_given_one_by_one_are_not_taken_for_dates(tmp_path, stub, capsys, names):
    form, *bands = names
    paths = []
    for day in ("20160822", "20180822"):
        (tmp_path / day).mkdir()
        named = [tmp_path / day / form.replace("20160822", day).format(band) for band in bands]
        paths += [write(path, picture()[..., 0]) for path in named]
    assert run_command(*paths, "--out", tmp_path / "out", "--tile", 128) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    start = f"btcchat: error: {paths[0].name} and {paths[1].name} seem to be two bands of one date; give the bands of a"
    assert line.startswith(start) and "--before RED GREEN BLUE --after RED GREEN BLUE" in line
    assert not (tmp_path / "out").exists()
    words = ["--before", *paths[:3], "--after", *paths[3:], "--dates", "2016", "2018", "--tile", 128]
    assert run_command(*words, "--dry-run") == 0


@pytest.mark.parametrize(
    ("names", "dates"),
    [
        (["B04_20160822.tif", "B04_20180822.tif", "B04_20200822.tif"], None),
        (["B04_20160822.tif", "B03_20180822.tif"], None),
        (["2016/B04.tif", "2018/B04.tif"], None),
        (["B04.tif", "B04.tif"], None),
        (["plot_B1.tif", "plot_B2.tif"], ["2016", "2018"]),
        (["plotB1.tif", "plotB2.tif"], None),
    ],
)
def test_grey_images_are_dates(tmp_path, stub, names, dates):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, picture()[..., 0])
    given = ["--dates", *dates] if dates else []
    assert run_command(*(tmp_path / name for name in names), *given, "--tile", 128, "--dry-run") == 0


def test_images_in_colour_whose_names_end_like_bands_are_dates(tmp_path, stub):
    paths = [write(tmp_path / f"plot_{name}.tif", picture()) for name in ("B1", "B2")]
    assert run_command(*paths, "--tile", 128, "--dry-run") == 0


def test_failed_tiles_give_exit_code_3(pair, tmp_path, stub, capsys):
    path = write(tmp_path / "bad.tif", picture(), compress="deflate")
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_2_2", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[offset : offset + 200] = b"\xff" * 200
    path.write_bytes(data)
    assert run_command(pair[0], path, "--out", tmp_path / "out", "--tile", 128, "--shift", "ignore") == 3
    assert "tile 15: image" in capsys.readouterr().err
    assert (tmp_path / "out" / "report.html").is_file()


def test_bands_and_stretch_are_chosen_and_recorded(tmp_path, stub):
    values = np.dstack([picture(), picture(seed=1)[..., :1]]).astype(np.uint16) * 12
    paths = [write(tmp_path / f"{year}.tif", values) for year in (2019, 2021)]
    words = ["--bands", "4,3,2", "--stretch", "300,2500", "--tile", 128]
    assert run_command(*paths, "--out", tmp_path / "out", *words) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["ranges"] == [[300, 2500]] * 2 and [date["bands"] for date in record["dates"]] == [[[4, 3, 2]]] * 2


def test_a_missing_package_is_named_with_its_extra(pair, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pyproj" else True)
    assert run_command(*pair, "--out", "out") == 2
    assert 'pip install "btcchat[geo]"' in capsys.readouterr().err


CHILD = """
import resource, sys
most = int(sys.argv.pop(1))
if most:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # bytes of a file; Python ignores the signal
from tests.geo.stub import StubModel
from btcchat import cli
from btcchat.commands import scenes_run
scenes_run.Loader.__call__ = lambda self: StubModel()
sys.exit(cli.main(["scenes", *sys.argv[1:]]))
"""


def child(*words, prefix=(), most: int = 0):
    """Run the command in a process of its own, which cannot write files of more than ``most`` bytes (0: any).

    Not with preexec_fn, which may wait forever in a process with threads.
    """
    command = [*prefix, sys.executable, "-c", CHILD, str(most), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_a_full_disk_gives_exit_code_2_and_the_run_can_be_resumed(pair, tmp_path):
    words = [*pair, "--out", tmp_path / "out", "--tile", "128"]
    code, error = child(*words, most=20_000)
    assert code == 2 and "cannot be written: " in error and "; make room, then run again with --resume" in error
    assert child(*words, "--resume")[0] == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "finished"


AS_USER = () if os.geteuid() else ("setpriv", "--inh-caps=-all", "--bounding-set=-all")  # root may write anywhere


@pytest.mark.parametrize("out", ["locked/out", "locked"])
def test_a_read_only_folder_gives_exit_code_2_before_a_scene_is_opened(tmp_path, out):
    (tmp_path / "locked").mkdir(mode=0o555)
    code, error = child("no.tif", "no.tif", "--out", tmp_path / out, prefix=AS_USER)
    assert code == 2 and "cannot be written: Permission denied" in error and "no.tif" not in error


@pytest.mark.parametrize(
    ("out", "fault"),
    [
        ("no/out", "the folder of --out does not exist: "),
        ("file", "file is not a folder; give another one"),
        ("mine", "mine has other files in it; give a new folder"),
        ("done", "done already has a run in it; continue it with --resume"),
    ],
)
def test_out_is_checked_before_a_scene_is_opened(tmp_path, capsys, out, fault):
    (tmp_path / "file").write_text("x")
    for name, file, text in (("mine", "thesis.txt", "x"), ("done", "run.json", '{"made_by": "btcchat scenes"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(text)
    (tmp_path / "list.csv").write_text("before,after,id\nno.tif,no.tif,file\nno.tif,no.tif,mine\nno.tif,no.tif,done\n")
    before = sorted(tmp_path.rglob("*"))
    assert run_command("no.tif", "no.tif", "--out", tmp_path / out) == 2
    error = capsys.readouterr().err
    assert fault in error and "no.tif" not in error
    assert run_command("--list", tmp_path / "list.csv", "--out", tmp_path) == 3  # its pairs have these folders
    errors = capsys.readouterr().err
    assert "/" in out or (fault in errors and "no.tif" not in errors)
    with pytest.raises(BTCChatError, match=fault):
        next(scenes("no.tif", "no.tif", tmp_path / out))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("listed", [False, True])
def test_a_model_that_cannot_be_used_is_one_line_before_a_scene_is_opened(tmp_path, capsys, listed):
    (tmp_path / "scenes.csv").write_text("before,after\na.tif,b.tif\nc.tif,d.tif\n")
    scenes = ["--list", tmp_path / "scenes.csv"] if listed else [tmp_path / "a.tif", tmp_path / "b.tif"]
    assert run_command(*scenes, "--out", tmp_path / "out", "--model", tmp_path / "none") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "none") in line and not (tmp_path / "out").exists()
    tiny_model(tmp_path).save_pretrained(tmp_path / "uncalibrated")
    assert run_command(*scenes, "--out", tmp_path / "out", "--model", tmp_path / "uncalibrated") == 2
    assert "has no change_threshold in its config.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_list_whose_out_is_not_a_folder_gives_one_line(pair, tmp_path, capsys):
    (tmp_path / "list.csv").write_text(f"before,after\n{pair[0]},{pair[1]}\n")
    assert run_command("--list", tmp_path / "list.csv", "--out", pair[0]) == 2
    assert "before_2019-05-01.tif is not a folder; give another one" in capsys.readouterr().err
