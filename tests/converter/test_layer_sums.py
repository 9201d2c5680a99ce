"""A layer's figures over several samples."""

import numpy as np
import pytest

from edgeferry.converter.layer_sums import Factors, Sums, Tensor

STEP = 0.1
WANTED = Tensor("conv", "CONV_2D", 3, np.zeros(0, np.float32), np.zeros(0, np.int32))
FOUND = Tensor("conv", "CONV_2D", 5, np.array([STEP], np.float32), np.array([-3], np.int32))
FLOAT = Tensor("conv", "CONV_2D", 5, np.zeros(0, np.float32), np.zeros(0, np.int32))
ONE = np.ones(1)


def feature_map(*scales: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 6, 6, len(scales))) * np.array(scales)


def quantized(real: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(real / STEP) - 3, -128, 127).astype(np.int8)


def figures(found: Tensor, *pairs: tuple[np.ndarray, np.ndarray], factors: np.ndarray = ONE):
    sums = Sums(WANTED, found, factors)
    for wanted, got in pairs:
        sums.add(wanted, got)
    return sums.layer()


def test_rounding_alone_is_what_a_layer_that_only_rounds_errs():
    layer = figures(FOUND, *((one, quantized(one)) for one in (feature_map(1, 1), feature_map(1, 1, seed=1))))

    assert layer.signal_db == pytest.approx(layer.own_db)
    assert layer.channel_db == pytest.approx(layer.own_channel_db)
    assert layer.signal_db == pytest.approx(10 * np.log10(12 / STEP**2), abs=1)  # a step's noise is a twelfth of it
    assert (layer.clipped_share, layer.dead_channels, layer.channels) == (0.0, 0, 2)
    assert 0.15 < layer.used_range < 0.3


def test_channels_smaller_than_a_step_are_dead_and_hidden_by_the_large_ones():
    real = feature_map(1, 0.01, 0.01)
    layer = figures(FOUND, (real, quantized(real)))

    assert layer.dead_channels == 2
    assert layer.signal_db > layer.channel_db + 15


def test_values_outside_of_the_range_are_counted():
    real = feature_map(10)
    layer = figures(FOUND, (real, quantized(real)))

    assert 0.05 < layer.clipped_share < 0.4


def test_an_error_that_was_inherited_is_not_its_own():
    real = feature_map(1, 1)
    layer = figures(FOUND, (real, quantized(real + feature_map(1, 1, seed=5))))

    assert layer.own_db > layer.signal_db + 10


def test_a_float_tensor_has_no_quantization_of_its_own():
    real = feature_map(1, 1)
    layer = figures(FLOAT, (real, real + 0.01))

    assert (layer.own_db, layer.own_channel_db, layer.used_range) == (None, None, 1.0)


def test_rescaled_channels_are_scaled_back():
    real, scales = feature_map(1, 1, 0), np.array([4.0, 0.5, 1.0])
    factors = Factors(FLOAT)
    factors.add(real, real * scales)

    assert factors.result() == pytest.approx(1 / scales)
    assert figures(FLOAT, (real, real * scales), factors=factors.result()).signal_db == 120


def test_a_tensor_that_is_no_feature_map_has_no_channels_of_its_own():
    real = feature_map(1, 1).reshape(1, -1)

    assert figures(FOUND, (real, quantized(real))).channel_db is None


def test_tensors_of_other_shapes_have_nothing_in_common():
    assert figures(FLOAT, (np.ones((1, 2)), np.ones((1, 3))), (np.ones((1, 0)), np.ones((1, 0)))) is None

    factors = Factors(FLOAT)
    factors.add(np.ones(2), np.ones(3))
    assert factors.result() == pytest.approx([1.0])


def test_a_scalar_can_be_compared():
    layer = figures(FLOAT, (np.array(2.0), np.array(2.0)))

    assert (layer.shape, layer.channels) == ((), 1)
