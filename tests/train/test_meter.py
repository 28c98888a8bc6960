"""The sums that a log line is computed from."""

import json
from types import SimpleNamespace

import pytest
import torch

from btcchat.train.meter import Meter

CPU = torch.device("cpu")


def test_figures_combine_all_processes():
    other = torch.tensor([6.0, 2.0, 10.0, 100.0])  # what another process counted: two batches of mean loss 3
    meter = Meter(CPU, gather=lambda here: torch.cat([here, other]))
    meter.add(torch.tensor(1.0), samples=5, tokens=50)
    sums = meter.sums()
    assert [sums[key] for key in ("loss", "batches", "samples", "tokens")] == [7, 3, 15, 150]
    figures = meter.read()
    assert figures["loss"] == pytest.approx(7 / 3, abs=1e-6)
    assert figures["supervised_tokens_per_second"] == pytest.approx(10 * figures["samples_per_second"], rel=0.01)


def test_an_interrupted_log_line_is_continued():
    whole, first, second = Meter(CPU), Meter(CPU), Meter(CPU)
    for meter in (whole, first):
        meter.add(torch.tensor(1.0), 1, 1)
        meter.read()
        meter.add(torch.tensor(2.0), 1, 1)
    second.load_state(json.loads(json.dumps(first.state())), main_process=True)
    for meter in (whole, second):
        meter.add(torch.tensor(4.0), 1, 1)
    assert second.read()["loss"] == whole.read()["loss"] == 3.0
    assert second.mean_loss() == whole.mean_loss() == pytest.approx(7 / 3)


def test_only_the_main_process_restores_the_sums():
    main, other = Meter(CPU), Meter(CPU)
    state = {"window": {"loss": 3.0, "batches": 1, "samples": 2, "tokens": 9, "seconds": 5.0}, "total": main.total}
    main.load_state(state, main_process=True)
    other.load_state(state, main_process=False)
    assert (main.sums()["tokens"], other.sums()["tokens"]) == (9, 0)
    assert min(main.sums()["seconds"], other.sums()["seconds"]) >= 5


def test_time_in_which_training_pauses_is_not_counted(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("btcchat.train.meter.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    meter = Meter(CPU)
    meter.add(torch.tensor(1.0), samples=6, tokens=30)
    clock[0] += 2
    with meter.paused():
        clock[0] += 1000
    clock[0] += 1
    figures = meter.read()
    assert (figures["samples_per_second"], figures["supervised_tokens_per_second"]) == (2, 10)
