"""Ray workers give the same rows as one process, also if one is killed."""

import pytest

from btcchat.geo.engines.on_ray import RayOptions, Spec, run_ray
from btcchat.geo.inputs import find_files
from btcchat.geo.plan import Plan
from btcchat.geo.scene_run import SceneRun
from btcchat.geo.settings import Settings
from tests.geo.drawn import FACTS, run_scenes
from tests.geo.stub import LoadKilled


@pytest.mark.slow
def test_two_workers_one_of_them_killed_give_the_rows_of_one_process(pair, tmp_path):
    pytest.importorskip("ray")
    _, expected = run_scenes(pair, tmp_path / "one", batch_size=2)
    files = [find_files(path) for path in pair]
    with Plan(files, Settings(tile=128, batch_size=2)) as plan, SceneRun(plan, tmp_path / "two", FACTS) as run:
        spec = Spec(plan.job, run.work(None), LoadKilled(tmp_path / "killed"))
        rows = list(run.rows(lambda batches: run_ray(batches, spec, RayOptions(workers=2))))
        run.finish()
    assert (tmp_path / "killed").exists()
    assert sorted(rows, key=lambda row: row["tile"]) == expected
    assert (tmp_path / "two" / "tiles.geojson").read_bytes() == (tmp_path / "one" / "tiles.geojson").read_bytes()
    assert (tmp_path / "two" / "change.tif").read_bytes() == (tmp_path / "one" / "change.tif").read_bytes()
