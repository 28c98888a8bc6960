import pytest
import torch

from btcchat.layers import loss as loss_of
from btcchat.layers.loss import mean_loss, rows_together

ROWS = 16


@pytest.mark.parametrize("rows", [1, ROWS, ROWS + 1, 3 * ROWS + 5])
def test_the_loss_in_parts_and_its_gradients_equal_those_of_the_whole(rows, monkeypatch):
    monkeypatch.setattr(loss_of, "LOGITS", 50 * ROWS)
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50, bias=False)
    hidden, target = torch.randn(rows, 8, requires_grad=True), torch.randint(50, (rows,))
    whole = torch.nn.functional.cross_entropy(head(hidden), target)
    expected = torch.autograd.grad(whole, [hidden, head.weight])
    seen = []
    head.register_forward_hook(lambda _, inputs, logits: seen.append(len(logits)))
    loss = mean_loss(head, hidden, target)
    found = torch.autograd.grad(loss, [hidden, head.weight])
    torch.testing.assert_close(loss, whole)
    torch.testing.assert_close(found, expected)
    assert max(seen) <= ROWS and sum(seen) == (rows if rows <= ROWS else 2 * rows)
    seen.clear()
    head.weight.ds_id = 0
    torch.testing.assert_close(mean_loss(head, hidden, target), whole)
    assert seen == [rows]


@pytest.mark.parametrize("rows", [7, ROWS + 1])
def test_smoothing_spreads_a_share_of_each_target_over_the_vocabulary(rows, monkeypatch):
    monkeypatch.setattr(loss_of, "LOGITS", 50 * ROWS)
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50, bias=False)
    hidden, target = torch.randn(rows, 8), torch.randint(50, (rows,))
    logs = head(hidden).log_softmax(-1)
    wanted = -(0.9 * logs[range(rows), target] + 0.1 * logs.mean(-1)).mean()
    torch.testing.assert_close(mean_loss(head, hidden, target, 0.1), wanted)


def test_a_gpu_takes_more_tokens_at_once_and_a_large_vocabulary_fewer():
    small, large = (torch.nn.Linear(1, size, bias=False) for size in (32_000, 152_064))
    assert [rows_together(small, torch.device(name)) for name in ("cpu", "cuda")] == [262, 4194]
    assert rows_together(large, torch.device("cpu")) == 55 and rows_together(large, torch.device("cuda")) == 882
