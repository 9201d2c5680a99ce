"""Which weights are pruned, and how many of them when."""

import numpy as np
import pytest

from edgeferry.converter.training.masks import BLOCK, mask, sparsity_at
from edgeferry.converter.training.recipe import Pattern


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_the_schedule_begins_and_ends_where_it_should_and_goes_fast_at_first():
    assert sparsity_at(0, 0.1, 0.9) == pytest.approx(0.1)
    assert sparsity_at(1, 0.1, 0.9) == pytest.approx(0.9)
    assert sparsity_at(7, 0.1, 0.9) == pytest.approx(0.9)
    assert sparsity_at(0.5, 0, 0.8) == pytest.approx(0.8 * 7 / 8)  # 1 - (1 - 1/2)^3


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 0.9])
def test_the_smallest_weights_go(share):
    kernel = weights(3, 3, 8, 16)

    kept = mask(kernel, share, Pattern.UNSTRUCTURED)

    assert (kept == 0).mean() == pytest.approx(share, abs=1e-3)
    assert np.abs(kernel[kept == 0]).max(initial=0) <= np.abs(kernel[kept == 1]).min()


def test_two_of_each_four_neighbours_stay_along_the_channels_that_come_in():
    kernel = weights(3, 3, 8, 16)

    kept = mask(kernel, 0.5, Pattern.TWO_OF_FOUR)

    groups = np.moveaxis(kept, -2, -1).reshape(-1, 4)
    assert (groups.sum(axis=1) == 2).all()
    values = np.abs(np.moveaxis(kernel, -2, -1).reshape(-1, 4))
    assert (np.where(groups == 1, values, np.inf).min(axis=1) >= np.where(groups == 0, values, 0).max(axis=1)).all()


def test_half_of_the_two_of_four_groups_are_pruned_half_way():
    groups = np.moveaxis(mask(weights(5, 8, 6), 0.25, Pattern.TWO_OF_FOUR), -2, -1).reshape(-1, 4)

    assert sorted(groups.sum(axis=1)) == [2] * 30 + [4] * 30


def test_blocks_go_as_a_whole_those_with_the_least_sum_first():
    kernel = weights(10, 12)

    kept = mask(kernel, 0.5, Pattern.BLOCK)

    groups = np.moveaxis(kept, -2, -1).reshape(-1, BLOCK)
    sums = np.abs(np.moveaxis(kernel, -2, -1)[..., :8].reshape(12, 2, 4)).sum(axis=2)
    assert set(groups.sum(axis=1)) <= {0, 2, BLOCK}
    assert kept[8:].all(), "a group that is not full stays"
    assert (kept[:8] == 0).mean() == pytest.approx(0.5)
    assert sums[kept[:8:4].T == 0].max() <= sums[kept[:8:4].T == 1].min()


@pytest.mark.parametrize("pattern", [Pattern.TWO_OF_FOUR, Pattern.BLOCK])
def test_a_kernel_with_fewer_channels_than_a_group_stays_whole(pattern):
    assert mask(weights(3, 3, 1, 8), 0.9, pattern).all()
