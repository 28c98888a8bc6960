"""The loss on change maps is lowest where the distance equals the mask, and its gradient leads there."""

import torch

from btcchat.train.map_loss import change_map_loss

SHARE = torch.zeros(2, 4, 4)
SHARE[0, :2, :2] = 1


def test_it_is_lowest_where_the_distance_equals_the_share():
    right = change_map_loss(SHARE, SHARE)
    assert right < 0.01
    for wrong in (1 - SHARE, torch.zeros_like(SHARE), torch.ones_like(SHARE), torch.full_like(SHARE, 0.5)):
        assert change_map_loss(wrong, SHARE) > right + 0.5


def test_nothing_changed_is_not_a_cheap_answer():
    """A quarter of one of two pairs changed: cross entropy alone prefers an empty map to a rough one."""
    rough = 0.6 * SHARE + 0.3
    assert change_map_loss(rough, SHARE) < change_map_loss(torch.full_like(SHARE, 0.01), SHARE)


def test_a_batch_without_changes_lowers_every_distance():
    distance = torch.full((2, 4, 4), 0.5, requires_grad=True)
    change_map_loss(distance, torch.zeros(2, 4, 4)).backward()
    assert (distance.grad > 0).all()


def test_half_precision_is_computed_in_float32():
    loss = change_map_loss(SHARE.bfloat16(), SHARE.bfloat16())
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
