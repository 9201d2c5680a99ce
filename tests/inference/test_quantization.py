import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeferry.inference.quantization import DTYPES, datatype_of, dequantize, is_quantized, quantize
from edgeferry.wire.desired import TensorSpec

PIXEL = TensorSpec("x", "INT8", (4,), scale=1 / 255, zero_point=-128)


def test_real_values_become_steps_and_saturate() -> None:
    real = np.array([0.0, 1.0, -5.0, 5.0, np.inf, -np.inf], np.float32)

    assert quantize(real, PIXEL).tolist() == [-128, 127, -128, 127, 127, -128]


def test_halves_are_rounded_to_even() -> None:
    halves = TensorSpec("x", "INT8", (3,), scale=1.0)

    assert quantize(np.array([0.5, 1.5, 2.5]), halves).tolist() == [0, 2, 2]


def test_int32_keeps_its_limits() -> None:
    wide = TensorSpec("x", "INT32", (2,), scale=1.0)

    assert quantize(np.array([1e12, -1e12]), wide).tolist() == [2**31 - 1, -(2**31)]


def test_nan_cannot_be_quantized() -> None:
    with pytest.raises(ValueError, match=r"tensor 'x' is quantized \(INT8\) and cannot hold NaN"):
        quantize(np.array([0.0, np.nan], np.float32), PIXEL)


def test_nothing_becomes_nothing() -> None:
    assert quantize(np.zeros((0, 2), np.float32), PIXEL).shape == (0, 2)


@given(st.integers(-128, 127), st.floats(1e-4, 1e3), st.integers(-128, 127))
def test_a_step_comes_back_as_itself(step: int, scale: float, zero_point: int) -> None:
    spec = TensorSpec("x", "INT8", (1,), scale=scale, zero_point=zero_point)

    assert quantize(dequantize(np.array([step], np.int8), spec), spec).tolist() == [step]


def test_a_scale_makes_a_tensor_quantized() -> None:
    assert is_quantized(PIXEL)
    assert not is_quantized(TensorSpec("x", "INT8", (4,)))


def test_every_datatype_is_found_by_its_dtype_and_strings_are_not() -> None:
    assert all(datatype_of(dtype) == datatype for datatype, dtype in DTYPES.items())
    assert datatype_of(np.dtype("S")) is None
