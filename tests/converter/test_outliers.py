"""From figures of a layer to the cause of its error."""

import dataclasses

import pytest

from edgeferry.converter.outliers import Cause, Layer, cause_of, find_outliers, signal_to_noise_db

GOOD = Layer(
    name="conv",
    operation="CONV_2D",
    shape=(1, 8, 8, 16),
    signal_db=40.0,
    own_db=42.0,
    channel_db=38.0,
    own_channel_db=40.0,
    clipped_share=0.0,
    used_range=0.6,
    dead_channels=0,
    channels=16,
    low=-1.0,
    high=1.0,
)


def like_good(**changes: object) -> Layer:
    return dataclasses.replace(GOOD, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("signal", "noise", "ratio"),
    [(1.0, 0.01, 20.0), (1.0, 1.0, 0.0), (1.0, 0.0, 120.0), (0.0, 1.0, -120.0), (1.0, float("nan"), -120.0)],
)
def test_decibels_are_ten_times_the_logarithm_within_bounds(signal, noise, ratio):
    assert signal_to_noise_db(signal, noise) == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"own_db": 14.0, "dead_channels": 4}, Cause.DEAD_CHANNELS),
        ({"own_db": 14.0, "clipped_share": 0.02}, Cause.SATURATION),
        ({"own_db": 14.0, "used_range": 0.1}, Cause.RANGE_OUTLIER),
        ({"own_db": 14.0, "own_channel_db": 2.0}, Cause.RANGE_OUTLIER),
        ({"own_db": 14.0, "own_channel_db": None}, Cause.ROUNDING),
        ({"own_db": 45.0, "channel_db": 5.0, "own_channel_db": 6.0}, Cause.RANGE_OUTLIER),
        ({"own_db": 45.0}, Cause.INHERITED),
        ({"own_db": 45.0, "channel_db": None, "own_channel_db": None}, Cause.INHERITED),
        ({"own_db": None, "own_channel_db": None}, Cause.INHERITED),
    ],
)
def test_the_cause_is_the_layers_own_quantization_or_what_came_before(changes, cause):
    assert cause_of(like_good(signal_db=12.0, **changes)) is cause


def test_layers_that_err_much_are_found():
    layers = [GOOD, like_good(signal_db=15.0), GOOD, like_good(channel_db=12.0), like_good(channel_db=None)]

    assert sorted(find_outliers(layers)) == [1, 3]


def test_what_is_far_below_all_others_stands_out_though_it_is_not_bad_alone():
    assert sorted(find_outliers([like_good(signal_db=60.0, channel_db=60.0)] * 5 + [like_good(signal_db=25.0)])) == [5]


def test_an_error_that_no_layer_before_has_is_not_inherited():
    bad = like_good(signal_db=12.0, own_db=None, own_channel_db=None)

    assert find_outliers([GOOD, bad, bad]) == {1: Cause.ROUNDING, 2: Cause.INHERITED}


def test_a_model_whose_layers_are_all_alike_has_no_outlier():
    assert find_outliers([GOOD] * 3) == {}
    assert find_outliers([]) == {}
