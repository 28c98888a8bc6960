"""Ray workers give the same rows as one process, also if one is killed or its node is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from btcchat.errors import BTCChatError
from btcchat.geo.engines.on_ray import RayOptions, Spec, run_ray
from tests.geo.cluster_checks import check_equal, run_of
from tests.geo.drawn import run_scenes
from tests.geo.stub import LoadKilled


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
@pytest.mark.parametrize("check", ["loses_a_node", "no_room"])
def test_a_cluster_in_a_process_of_its_own(check):
    """Ray Data fails on a cluster if the process used another one before."""
    pytest.importorskip("ray")
    file = Path(__file__).with_name("cluster_checks.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file), "-k", check]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-3000:]


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
