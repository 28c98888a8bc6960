"""Tests on a Ray cluster of two nodes, which test_ray.py runs in a process of their own."""

from contextlib import contextmanager

import pytest

from btcchat.errors import BTCChatError
from btcchat.geo.engines.on_ray import RayOptions, Spec, run_ray
from btcchat.geo.inputs import find_files
from btcchat.geo.plan import Plan
from btcchat.geo.scene_run import SceneRun
from btcchat.geo.settings import Settings
from tests.geo.drawn import FACTS, run_scenes
from tests.geo.stub import LoadSlow


@contextmanager
def run_of(pair, out):
    with Plan([find_files(path) for path in pair], Settings(tile=128, batch_size=2)) as plan:
        with SceneRun(plan, out, FACTS) as run:
            yield run


def check_equal(run, rows, expected, out, other):
    """The rows, and the files built from them."""
    run.finish()
    assert sorted(rows, key=lambda row: row["tile"]) == expected
    for name in ("tiles.geojson", "change.tif"):
        assert (out / name).read_bytes() == (other / name).read_bytes()


def test_a_cluster_that_loses_a_node_repeats_its_tiles(pair, tmp_path):
    from ray.cluster_utils import Cluster

    _, expected = run_scenes(pair, tmp_path / "one", batch_size=2)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        lost = cluster.add_node(num_cpus=1)
        with run_of(pair, tmp_path / "two") as run:
            spec = Spec(run.plan.job, run.work(None), LoadSlow(seconds=1))
            options = RayOptions(address=cluster.address, workers=2)
            rows = []
            for row in run.rows(lambda batches: run_ray(batches, spec, options)):
                rows.append(row)
                if len(rows) == 2:
                    cluster.remove_node(lost)
            check_equal(run, rows, expected, tmp_path / "two", tmp_path / "one")
    finally:
        cluster.shutdown()


def test_workers_that_a_cluster_has_no_room_for_are_an_error_after_a_while(pair, tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setattr("btcchat.geo.engines.on_ray.START", 10)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        with run_of(pair, tmp_path / "out") as run:
            spec = Spec(run.plan.job, run.work(None), LoadSlow(seconds=0))
            with pytest.raises(BTCChatError, match="Ray could not start 3 workers"):
                list(run_ray([[0], [1], [2]], spec, RayOptions(address=cluster.address, workers=3)))
    finally:
        cluster.shutdown()
