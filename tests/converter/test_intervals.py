"""Intervals of paired differences: what many samples show, and few do not."""

import numpy as np
import pytest

from edgeferry.converter.intervals import _Z, _score, least_upper_bound, paired_shares, resampled
from edgeferry.converter.metrics import Scorer, Weights


def mean_of(values: np.ndarray) -> Scorer:
    def score(weights: Weights) -> np.ndarray:
        return (weights @ values) / weights.sum(axis=1)

    return score


@pytest.mark.parametrize(("lost", "gained", "samples"), [(3, 1, 400), (1, 7, 50), (12, 2, 50), (0, 4, 30)])
def test_at_its_ends_the_score_statistic_is_that_of_95_percent(lost: int, gained: int, samples: int) -> None:
    low, high = paired_shares(lost, gained, samples)

    assert _score(lost, gained, samples, low) == pytest.approx(_Z)
    assert _score(lost, gained, samples, high) == pytest.approx(-_Z)
    assert low < (lost - gained) / samples < high


@pytest.mark.parametrize("samples", [1, 50, 400, 100_000])
def test_where_no_sample_differs_the_bound_falls_with_their_number(samples: int) -> None:
    low, high = paired_shares(0, 0, samples)

    assert high == pytest.approx(least_upper_bound(samples)) == pytest.approx(-low)


def test_where_all_are_lost_nothing_is_left_to_lose() -> None:
    low, high = paired_shares(400, 0, 400)

    assert high == pytest.approx(1)
    assert low > 0.97


def test_lost_and_gained_are_mirrored() -> None:
    low, high = paired_shares(5, 2, 100)

    assert paired_shares(2, 5, 100) == pytest.approx((-high, -low))


def test_it_holds_the_true_difference_19_times_of_20() -> None:
    random = np.random.default_rng(4)
    losses = random.multinomial(200, [0.04, 0.02, 0.94], size=400)

    held = [
        low <= 0.02 <= high for low, high in (paired_shares(int(lost), int(gained), 200) for lost, gained, _ in losses)
    ]

    assert 0.92 <= np.mean(held) <= 0.99


def test_resampling_agrees_with_the_closed_form_for_shares() -> None:
    was_right, is_right = np.ones(1000), np.ones(1000)
    is_right[:30] = 0
    was_right[30:40] = 0

    found = resampled(mean_of(was_right), mean_of(is_right), 1000)

    assert found == pytest.approx(paired_shares(30, 10, 1000), abs=0.002)


def test_resampling_repeats() -> None:
    values = np.random.default_rng(0).normal(size=300)

    assert resampled(mean_of(values), mean_of(values**2), 300) == resampled(mean_of(values), mean_of(values**2), 300)


def test_pairs_that_differ_by_the_same_leave_no_doubt() -> None:
    values = np.random.default_rng(0).normal(size=5000)

    assert resampled(mean_of(values), mean_of(values - 0.5), 5000) == pytest.approx((0.5, 0.5))
