"""Which GPUs several processes with the model take. There need be none here: only names and numbers are compared."""

import logging
import os
import subprocess
import sys

import pytest
import torch

from btcchat.geo.engines.on_ray import RayOptions, _check_resources
from btcchat.serve.gpus import ray_share, visible_gpus
from btcchat.serve.http import server
from btcchat.serve.http.metrics import FOLDER
from btcchat.serve.http.settings import Settings

TURN = """
import os, sys
from pathlib import Path
from btcchat.serve.gpus import take_turn
take_turn(sys.argv[2:], Path(sys.argv[1]))
print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("named", "there", "found"),
    [(None, 2, ["0", "1"]), ("3,1", 2, ["3", "1"]), ("GPU-a,GPU-b", 1, ["GPU-a"]), ("", 0, []), (None, 0, [])],
)
def test_visible_gpus_have_the_names_that_cuda_knows(monkeypatch, named, there, found):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == found


def test_processes_take_gpus_in_turn_and_one_that_replaces_another_takes_its_gpu(tmp_path):
    processes = []

    def start(*gpus) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        command = [sys.executable, "-c", TURN, str(tmp_path), *gpus]
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
        processes.append(subprocess.Popen(command, **options))
        return processes[-1].stdout.readline().strip()

    try:
        assert [start("3", "5") for _ in range(3)] == ["3", "5", "3"]
        processes[1].kill()
        processes[1].wait()
        assert start("3", "5") == "5"
        assert start("0") == start() == "None"  # nothing to choose
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_replica_of_the_server_takes_its_turn(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "end_with_parent", lambda: None)
    monkeypatch.setattr(server, "HANGUP", None)
    monkeypatch.setattr(logging.getLogger("btcchat"), "handlers", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr(server, "visible_gpus", lambda: ["3", "5"])
    monkeypatch.setattr(server.Replicas, "__init__", lambda *_: None)

    def run(self) -> None:
        self.ended_by = None
        assert server.replica() and os.environ["CUDA_VISIBLE_DEVICES"] == "3"
        raise InterruptedError

    monkeypatch.setattr(server.Replicas, "run", run)
    for name in (server.SETTINGS, server.GPUS, FOLDER, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # restored after the test
    with pytest.raises(InterruptedError):
        server._serve_replicas(Settings(), None, 2)


@pytest.mark.parametrize(
    ("processes", "there", "each"),
    [(2, 0, 0), (1, 1, 1), (2, 4, 1), (2, 2, 1), (2, 1, 0.5), (3, 2, 0.5), (3, 1, 0.3333), (49, 1, 0.0204)],
)
def test_ray_gives_each_process_an_equal_share_that_it_can_place(monkeypatch, processes, there, each):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(
        ray, "cluster_resources", lambda: {"CPU": 64.0, "GPU": float(there)} if there else {"CPU": 64.0}
    )
    assert ray_share(processes, "auto") == each
    assert ray_share(processes, "cpu") == 0
    _check_resources(RayOptions(workers=processes), each)
