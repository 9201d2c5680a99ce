"""Ranges that leave out what is rare, or that cost least."""

import numpy as np
import pytest

from edgeferry.converter.repair.making import deviation, outputs_of
from edgeferry.converter.repair.plan import Ranges
from edgeferry.converter.repair.ranges import BINS, Histogram, least_error_range, percentile_range

from .conftest import Net


def filled(values: np.ndarray) -> Histogram:
    histogram = Histogram(float(values.min()), float(values.max()))
    histogram.add(values.astype(np.float32))
    return histogram


@pytest.fixture
def with_outlier() -> Histogram:
    """A million values between -1 and 1, and one at 50."""
    values = np.random.default_rng(0).uniform(-1, 1, 1_000_000)
    values[0] = 50
    return filled(values)


def test_zero_is_always_within(with_outlier: Histogram) -> None:
    assert (filled(np.array([3.0, 4.0])).low, filled(np.array([-4.0, -3.0])).high) == (0, 0)


def test_a_percentile_range_leaves_the_rare_value_out(with_outlier: Histogram) -> None:
    low, high = percentile_range(with_outlier)

    width = 51 / BINS
    assert low == pytest.approx(-1, abs=2 * width)
    assert high == pytest.approx(1, abs=2 * width)


def test_a_range_of_least_error_gives_the_rare_value_up(with_outlier: Histogram) -> None:
    low, high = least_error_range(with_outlier)

    assert high < 50 / 2
    assert low < 0


def test_evenly_spread_values_keep_nearly_their_whole_range() -> None:
    histogram = filled(np.linspace(-2, 2, 100_000))

    assert percentile_range(histogram) == pytest.approx((-2, 2), abs=0.01)
    assert least_error_range(histogram) == pytest.approx((-2, 2), abs=0.1)


@pytest.mark.parametrize("learn", [percentile_range, least_error_range])
def test_without_values_the_limits_stay(learn) -> None:
    assert learn(Histogram(-1, 2)) == (-1, 2)
    constant = Histogram(0, 0)
    constant.add(np.zeros(10, np.float32))
    assert learn(constant) == (0, 0)


@pytest.mark.parametrize("ranges", list(Ranges))
def test_every_way_to_learn_ranges_gives_a_model_that_is_near(plain: Net, ranges: Ranges) -> None:
    base = plain.base()

    quantized = base.quantized(ranges)

    assert deviation(outputs_of(base.content, plain.samples), outputs_of(quantized, plain.samples)) < 0.05


def test_ranges_cover_what_was_seen(plain: Net) -> None:
    base = plain.base()

    names = {base.graph.name(index): limits for index, limits in base.limits.items()}

    assert names["x"] == pytest.approx((0, 1), abs=0.01)
    assert names["first"][0] == 0
    assert names["first"][1] == pytest.approx(base.peaks[base.links[0].tensor].max(), rel=1e-5)
