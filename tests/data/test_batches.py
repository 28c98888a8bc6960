"""Batches: grouped by length, reproducible by seed, and divided among processes."""

import numpy as np
import pytest

from btcchat.data.batches import Batching, GroupedBatches
from btcchat.errors import BTCChatError


def test_grouped_batches_hold_every_sample_once_over_all_ranks():
    lengths = np.random.default_rng(0).integers(10, 200, 1001)
    for world in (1, 2, 3):
        ranks = [
            list(GroupedBatches(lengths, Batching(8, seed=1, accumulate=4, rank=r, world=world))) for r in range(world)
        ]
        assert len({len(batches) for batches in ranks}) == 1
        assert len(ranks[0]) % 4 == 0
        assert sorted(i for batches in ranks for batch in batches for i in batch) == list(range(1001))
        assert max(len(batch) for batches in ranks for batch in batches) <= 8


def test_grouped_batches_are_similar_in_length():
    lengths = np.random.default_rng(0).integers(10, 200, 2000)

    def padding(batches):
        return sum(lengths[b].max() * len(b) - lengths[b].sum() for b in map(np.array, batches)) / lengths.sum()

    shuffled = np.array_split(np.random.default_rng(1).permutation(2000), 125)
    assert padding(shuffled) > 0.5
    assert padding(GroupedBatches(lengths, Batching(16, seed=0))) < 0.25


def test_the_ranks_of_a_step_have_batches_of_similar_length():
    lengths = np.random.default_rng(0).choice([100, 250, 1200], 2000, p=[0.6, 0.35, 0.05])
    ranks = [list(GroupedBatches(lengths, Batching(8, seed=0, rank=rank, world=2))) for rank in (0, 1)]
    longest = np.array([[lengths[batch].max() for batch in batches] for batches in ranks])  # (2 ranks, steps)
    assert (longest[0] != longest[1]).mean() < 0.15, "by chance it would be half of the steps"
    assert len(set(longest[0])) == 3


@pytest.mark.parametrize("max_tokens", [None, 16 * 160])
def test_short_and_long_answers_to_similar_samples_share_a_batch(max_tokens):
    lengths = np.array([150, 158] * 512 + [1200] * 64)  # unchanged pairs, changed ones, videos
    batches = [lengths[batch] for batch in GroupedBatches(lengths, Batching(16, seed=0, max_tokens=max_tokens))]
    assert sum(len(set(batch)) > 1 and 1200 in batch for batch in batches) <= 3, (
        "videos are in separate batches, except at a border"
    )
    shares = [(batch == 158).mean() for batch in batches if 1200 not in batch]
    assert np.std(shares) < 0.25, "0.125 for batches by chance, 0.5 for sorted ones"


def test_an_epoch_is_reproducible_and_differs_from_others():
    batches = GroupedBatches([5, 6, 7] * 20, Batching(4, seed=3))
    first = list(batches)
    assert first == list(batches)
    batches.set_epoch(1)
    assert first != list(batches)
    assert first != list(GroupedBatches([5, 6, 7] * 20, Batching(4, seed=4)))


def test_more_batches_per_step_than_samples_is_an_error():
    with pytest.raises(BTCChatError, match="3 samples are fewer than the 4 batches of one step"):
        GroupedBatches([1, 2, 3], Batching(1, seed=0, accumulate=4))
