"""BatchNorm statistics of processes that saw different data become their mean before a model is saved."""

import multiprocessing

import pytest
import torch
from torch import distributed, nn

from btcchat.train import trainer as module
from btcchat.train.distributed import average_statistics


def average(rank: int, store: str, results) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    model = nn.Sequential(nn.BatchNorm1d(2, momentum=1.0), nn.BatchNorm1d(2, track_running_stats=False))
    frozen = nn.BatchNorm1d(2).eval()
    frozen.running_mean += rank
    model[0](torch.tensor([[0.0, 4.0], [2.0, 4.0]]) + 10 * rank)
    average_statistics(nn.Sequential(model, frozen))
    results.put((rank, model[0].running_mean.tolist(), model[0].running_var.tolist(), frozen.running_mean.tolist()))
    distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_available(), reason="torch without distributed")
def test_the_statistics_of_two_processes_are_averaged(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    processes = [context.Process(target=average, args=(rank, tmp_path / "store", results)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    found = sorted(results.get() for _ in processes)
    for rank, mean, variance, frozen in found:
        assert mean == [6.0, 9.0] and variance == [2.0, 0.0]
        assert frozen == [float(rank)] * 2  # it is not trained, so it is alike in all processes


def test_statistics_are_averaged_whenever_a_model_is_saved(run, monkeypatch):
    averaged = []
    monkeypatch.setattr(module, "average_statistics", averaged.append)
    trainer = run(tune_cc_projector=True, max_steps=2, save_strategy="steps", save_steps=1)
    assert averaged == [trainer.model] * 3
