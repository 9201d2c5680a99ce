"""How real values become a tensor's integers and back: affine, one scale per tensor.

Source: the TensorFlow Lite 8-bit quantization specification, ``real = (quantized - zero_point) * scale``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.wire.desired import TensorSpec

__all__ = ["DTYPES", "datatype_of", "dequantize", "is_quantized", "quantize"]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
}
_DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}


def datatype_of(dtype: np.dtype[Any]) -> str | None:
    """Return the Open Inference Protocol's word for ``dtype``, or None when it has none (strings, complex numbers)."""
    return _DATATYPES.get(dtype)


def is_quantized(spec: TensorSpec) -> bool:
    """Return whether the tensor's integers stand for real values."""
    return spec.scale > 0.0


def quantize(real: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Return ``real`` in the datatype of ``spec``, rounded to even and saturated.

    Args:
        real: Real values, any float or integer dtype, any shape; the result has the same shape.
        spec: A quantized tensor.

    Raises:
        ValueError: A value is NaN, which no integer stands for.
    """
    if real.size and np.isnan(real.min()):  # min() hands NaN on, and needs no second array as isnan() would
        raise ValueError(f"tensor {spec.name!r} is quantized ({spec.datatype}) and cannot hold NaN")
    dtype = DTYPES[spec.datatype]
    limits = np.iinfo(dtype)
    steps: NDArray[Any] = real.astype(np.float32 if limits.bits <= 16 else np.float64)  # float32 has no room for int32
    steps /= steps.dtype.type(spec.scale)
    np.rint(steps, out=steps)
    steps += steps.dtype.type(spec.zero_point)
    np.clip(steps, limits.min, limits.max, out=steps)
    return steps.astype(dtype)


def dequantize(quantized: NDArray[Any], spec: TensorSpec) -> NDArray[np.float32]:
    """Return the real values of ``quantized``, as float32.

    Args:
        quantized: Values of the tensor, in its datatype, any shape; the result has the same.
        spec: A quantized tensor.
    """
    real = quantized.astype(np.float32)
    real -= np.float32(spec.zero_point)
    real *= np.float32(spec.scale)
    return real
