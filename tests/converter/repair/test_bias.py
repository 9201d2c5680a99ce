"""What rounding the weights does to the mean of an output is taken from the bias."""

import numpy as np
import pytest

from edgeferry.converter.repair.bias import correctable, mean_shift, rounding_error
from edgeferry.converter.repair.graph import FloatGraph, Operation
from edgeferry.converter.repair.links import bias_input
from edgeferry.converter.repair.making import outputs_of

from .conftest import Net

DENSE = Operation(0, "FULLY_CONNECTED", (0, 1, 2), (3,), "NONE")
DEPTHWISE = Operation(0, "DEPTHWISE_CONV_2D", (0, 1, 2), (3,), "NONE", multiplier=2)


def test_rounding_is_within_half_a_step_of_each_channel() -> None:
    weights = np.random.default_rng(0).normal(size=(4, 100)).astype(np.float32) * [[1], [10], [100], [0]]

    error = rounding_error("FULLY_CONNECTED", weights.astype(np.float32), per_channel=True)

    step = np.abs(weights).max(axis=1, keepdims=True) / 127
    assert (np.abs(error) <= step / 2 + 1e-6).all()
    assert np.abs(error[0]).max() > 0


def test_with_one_scale_for_all_small_channels_are_lost() -> None:
    weights = np.array([[100.0], [0.1]], np.float32)

    error = rounding_error("FULLY_CONNECTED", weights, per_channel=False)

    np.testing.assert_allclose(error[1], [-0.1])


def test_the_mean_moves_by_the_error_times_the_mean_input() -> None:
    error = np.array([[0.5, 0.0], [0.0, -1.0]], np.float32)

    np.testing.assert_allclose(mean_shift(DENSE, error, np.array([2, 3], np.float32)), [1, -3])


def test_each_output_of_a_depthwise_convolution_has_one_input() -> None:
    error = np.ones((1, 3, 3, 4), np.float32) * [1, 2, 3, 4]

    shift = mean_shift(DEPTHWISE, error.astype(np.float32), np.array([1, 10], np.float32))

    np.testing.assert_allclose(shift, [9, 18, 270, 360])


def test_every_layer_with_a_bias_of_its_own_is_corrected(plain: Net) -> None:
    base = plain.base()
    corrected = FloatGraph.of(base.corrected().content)

    changed = []
    for operation in correctable(base.graph):
        before, after = base.graph.changeable(bias_input(operation)), corrected.changeable(bias_input(operation))
        assert before is not None
        assert after is not None
        changed.append(bool((before != after).any()))

    assert changed == [True] * 4


def test_a_correction_is_small_where_rounding_is(plain: Net) -> None:
    base = plain.base()

    before, after = (outputs_of(one.content, plain.samples)[0] for one in (base, base.corrected()))

    assert np.abs(after - before).max() < 0.05 * np.abs(before).max()
    assert (after != before).any()


@pytest.mark.parametrize("bias", [-1])
def test_a_layer_without_bias_is_left_alone(bias: int) -> None:
    assert bias_input(Operation(0, "CONV_2D", (0, 1), (2,), "NONE")) == bias
