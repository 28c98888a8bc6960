"""A run that is killed by a signal, and resumed."""

import json
import os
import signal
import subprocess
import sys
import time

import rasterio

from tests.geo.drawn import run_scenes

SLOW = """
import sys
from pathlib import Path
from tests.geo.drawn import run_scenes
from tests.geo.stub import Slow

before, after, out = map(Path, sys.argv[1:])
run_scenes([before, after], out, model=Slow(1), batch_size=2)
"""


def test_a_killed_run_is_resumed_and_its_files_are_equal(pair, tmp_path):
    run_scenes(pair, tmp_path / "whole", batch_size=2)
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", SLOW, *map(str, pair), str(out)]) as process:
        log = out / "tiles.jsonl"
        end = time.monotonic() + 120
        while not (log.exists() and log.read_bytes().count(b"\n") >= 4):
            assert process.poll() is None and time.monotonic() < end, "the run wrote no four rows in two minutes"
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert json.loads((out / "run.json").read_text())["status"] == "running"
    _, rows = run_scenes(pair, out, batch_size=2, resume=True)
    assert 0 < len(rows) <= 12
    assert (out / "tiles.geojson").read_bytes() == (tmp_path / "whole" / "tiles.geojson").read_bytes()
    with rasterio.open(out / "change.tif") as ours, rasterio.open(tmp_path / "whole" / "change.tif") as whole:
        assert ours.read(1).tobytes() == whole.read(1).tobytes()
