"""Ray workers give the same rows as one process, also if one is killed or its node is lost."""

from contextlib import contextmanager

import pytest

from btcchat.errors import BTCChatError
from btcchat.geo.engines.on_ray import RayOptions, Spec, run_ray
from btcchat.geo.inputs import find_files
from btcchat.geo.plan import Plan
from btcchat.geo.scene_run import SceneRun
from btcchat.geo.settings import Settings
from tests.geo.drawn import FACTS, run_scenes
from tests.geo.stub import LoadKilled, LoadSlow


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


@pytest.mark.slow
def test_two_workers_one_of_them_killed_give_the_rows_of_one_process(pair, tmp_path):
    pytest.importorskip("ray")
    _, expected = run_scenes(pair, tmp_path / "one", batch_size=2)
    with run_of(pair, tmp_path / "two") as run:
        spec = Spec(run.plan.job, run.work(None), LoadKilled(tmp_path / "killed"))
        rows = list(run.rows(lambda batches: run_ray(batches, spec, RayOptions(workers=2))))
        check_equal(run, rows, expected, tmp_path / "two", tmp_path / "one")
    assert (tmp_path / "killed").exists()


@pytest.mark.slow
def test_a_cluster_that_loses_a_node_repeats_its_tiles(pair, tmp_path):
    pytest.importorskip("ray")
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


@pytest.mark.slow
def test_workers_that_a_cluster_has_no_room_for_are_an_error_after_a_while(pair, tmp_path, monkeypatch):
    pytest.importorskip("ray")
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


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "nonsense"])
def test_a_cluster_that_does_not_answer_is_an_error_and_not_a_long_wait(address):
    pytest.importorskip("ray")
    with pytest.raises(BTCChatError, match="no Ray cluster answers"):
        next(run_ray([[0]], None, RayOptions(address=address)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (RayOptions(workers=2, gpus=40), "2 Ray workers with 40 GPU each need 80, but Ray found"),
        (RayOptions(workers=4000), "4000 Ray workers with 1 CPU each need 4000, but Ray found"),
    ],
)
def test_workers_that_need_more_than_the_machine_has_are_an_error(options, words):
    ray = pytest.importorskip("ray")
    with pytest.raises(BTCChatError, match=words):
        next(run_ray([[0]], None, options))
    assert not ray.is_initialized()
