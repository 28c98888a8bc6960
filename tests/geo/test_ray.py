"""Ray workers give the same rows as one process, also if one is killed or its node is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from btcchat.errors import BTCChatError
from btcchat.geo.engines.on_ray import RayOptions, Spec, Worker, _check_resources, run_ray
from tests.geo.cluster_checks import check_equal, run_of
from tests.geo.drawn import picture, run_command, run_scenes, write
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
def test_a_run_of_the_command_that_loses_a_worker_equals_a_local_one(tmp_path):
    """The packaged model, two workers, and SIGKILL for one of them once rows of the run are on disk."""
    pytest.importorskip("ray")
    before, after = picture(384), picture(384)
    after[100:200, 100:200] = 250
    pair = [write(tmp_path / "b_2019.tif", before), write(tmp_path / "a_2021.tif", after)]
    words = [*pair, "--tile", 64, "--overlap", 0, "--batch-size", 2, "--max-new-tokens", 12, "--shift", "ignore"]
    words += ["--device", "cpu", "--dtype", "float32", "--out"]
    assert run_command(*words, tmp_path / "one") == 0
    command = [sys.executable, "-m", "btcchat", "scenes", *map(str, words), str(tmp_path / "two"), "--engine", "ray"]
    log, end = tmp_path / "two" / "tiles.jsonl", time.monotonic() + 240
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        try:
            busy: list[int] = []
            while not busy:
                assert run.poll() is None and time.monotonic() < end, "the run wrote no four rows in four minutes"
                time.sleep(0.02)
                busy = _busy_workers_of(run.pid) if log.exists() and log.read_bytes().count(b"\n") >= 4 else []
            os.kill(busy[0], signal.SIGKILL)
            rows_before = log.read_bytes().count(b"\n")
            _, error = run.communicate(timeout=240)
        finally:
            run.kill()
    assert run.returncode == 0 and "btcchat: error" not in error, error
    one, two = (_rows(tmp_path / name / "tiles.jsonl") for name in ("one", "two"))
    assert rows_before < len(one) == 36 and one == two
    for name in ("tiles.geojson", "change.tif"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def _busy_workers_of(driver: int) -> list[int]:
    """The processes of Ray's actors below a process that are doing a batch, by their titles."""
    parents, titles = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status, title = (folder / "stat").read_text(), (folder / "cmdline").read_text()
        except OSError:  # it has ended
            continue
        parents[int(folder.name)] = int(status.rpartition(")")[2].split()[1])
        titles[int(folder.name)] = title

    def below(process: int) -> bool:
        return process == driver or (process in parents and below(parents[process]))

    busy = [process for process, title in titles.items() if "(Worker)).submit" in title and below(process)]
    return [process for process in busy if titles[process].startswith("ray::")]


def _rows(log: Path) -> list[dict]:
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return sorted(rows, key=lambda row: row["tile"])


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


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (RayOptions(workers=3, gpus=0.6), "3 Ray workers with 0.6 GPU each need 3, but Ray found 2"),
        (RayOptions(workers=7, gpus=0.3), "7 Ray workers with 0.3 GPU each need 3, but Ray found 2"),
        (RayOptions(workers=9, gpus=0.2), "9 Ray workers with 1 CPU each need 9, but Ray found 8"),
        (RayOptions(workers=1, gpus=1.5), "--ray-gpus is 1.5; Ray gives a worker whole GPUs, or a part of one"),
        (RayOptions("auto", workers=1, gpus=1.5), "--ray-gpus is 1.5"),
    ],
)
def test_workers_that_ray_could_never_place_are_an_error_at_once(monkeypatch, options, words):
    """Ray waits for them for half an hour."""
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    with pytest.raises(BTCChatError, match=words):
        _check_resources(options, options.gpus)


@pytest.mark.parametrize(("workers", "gpus"), [(2, 0), (8, 0.25), (6, 0.3), (8, 0.1), (2, 1)])
def test_workers_that_fit_exactly_may_start(monkeypatch, workers, gpus):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    _check_resources(RayOptions(workers=workers, gpus=gpus), gpus)


def test_a_worker_without_a_share_of_a_gpu_sees_none(pair, tmp_path, monkeypatch):
    """Ray leaves all GPUs visible, so every worker would use the first one."""
    seen = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with run_of(pair, tmp_path / "out") as run:
        spec = Spec(run.plan.job, run.work(None), lambda: seen.append(os.environ["CUDA_VISIBLE_DEVICES"]))
        for gpus in (0.5, 0):
            Worker(spec, gpus)
    assert seen == ["0,1", ""]


def test_no_gpu_for_workers_on_a_gpu_is_an_error(pair, tmp_path, capsys):
    words = ["--engine", "ray", "--ray-gpus", 0, "--device", "cuda", "--out", tmp_path / "out"]
    assert run_command(*pair, *words) == 2
    assert "--device cuda needs a GPU, but --ray-gpus is 0; leave one of them out" in capsys.readouterr().err
