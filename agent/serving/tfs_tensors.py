"""Tensors in TensorFlow's protocol buffers: typed fields or raw content in, typed fields out.

Source: tensorflow, core/framework/{types,tensor}.proto; what fewer values than the shape mean is in Tensor::FromProto.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.oip_request import tensor_from_bytes
from edgeferry.agent.serving.protobuf import Fields
from edgeferry.inference.quantization import DTYPES, datatype_of

__all__ = ["DT", "tensor_from_proto", "tensor_to_proto"]

DT = {
    "FP32": 1,
    "FP64": 2,
    "INT32": 3,
    "UINT8": 4,
    "INT16": 5,
    "INT8": 6,
    "INT64": 9,
    "BOOL": 10,
    "BF16": 14,
    "UINT16": 17,
    "FP16": 19,
    "UINT32": 22,
    "UINT64": 23,
}
_DATATYPES = {number: datatype for datatype, number in DT.items()}
_FIELDS = {
    "FP32": "float_val",
    "FP64": "double_val",
    "INT64": "int64_val",
    "BOOL": "bool_val",
    "FP16": "half_val",
    "BF16": "half_val",
    "UINT32": "uint32_val",
    "UINT64": "uint64_val",
}  # all others travel in int_val
_MAX_TENSOR_BYTES = 64 * 1024 * 1024
_MAX_RANK = 32


def tensor_from_proto(name: str, proto: Fields) -> NDArray[Any]:
    """Return the tensor in ``proto``; bfloat16 as float32.

    Raises:
        RequestError: Its type is not one of numbers, or its content is not what its shape says.
    """
    datatype = _DATATYPES.get(proto.get("dtype", 0))
    if datatype is None:
        raise RequestError.bad(f"input {name[:64]!r} has DataType {proto.get('dtype', 0)}, wanted one of numbers")
    shape = _shape(name, proto.get("tensor_shape", {}))
    size = math.prod(shape)
    item_bytes = 2 if datatype == "BF16" else DTYPES[datatype].itemsize
    if size * item_bytes > _MAX_TENSOR_BYTES:
        raise RequestError.bad(
            f"input {name[:64]!r} has {size} values of {datatype}, more than {_MAX_TENSOR_BYTES} bytes"
        )
    content = proto.get("tensor_content", b"")
    if len(content):
        if len(content) != size * item_bytes:
            raise RequestError.bad(
                f"input {name[:64]!r} has {len(content)} bytes, its shape {list(shape)} another number"
            )
        return tensor_from_bytes(content, datatype).reshape(shape)
    return _filled(name, _typed(name, proto, datatype), size).reshape(shape)


def _shape(name: str, proto: Fields) -> tuple[int, ...]:
    shape = tuple(dim.get("size", 0) for dim in proto.get("dim", ()))
    if proto.get("unknown_rank") or len(shape) > _MAX_RANK or any(not 0 <= size < 1 << 31 for size in shape):
        raise RequestError.bad(f"input {name[:64]!r} has no usable shape: {list(shape)[:_MAX_RANK]}")
    return shape


def _typed(name: str, proto: Fields, datatype: str) -> NDArray[Any]:
    values: NDArray[Any] = proto.get(_FIELDS.get(datatype, "int_val"), np.zeros(0, np.int64))
    if datatype in {"FP16", "BF16"}:
        return tensor_from_bytes(values.astype("<u2").tobytes(), datatype)
    dtype = DTYPES[datatype]
    if datatype == "UINT64":
        return values.view(np.uint64)
    if dtype.kind in "iu" and values.size:
        limits = np.iinfo(dtype)
        if values.min() < limits.min or values.max() > limits.max:
            raise RequestError.bad(f"input {name[:64]!r} exceeds {datatype}: {limits.min} to {limits.max}")
    return values.astype(dtype)


def _filled(name: str, values: NDArray[Any], size: int) -> NDArray[Any]:
    if values.size > size:
        raise RequestError.bad(f"input {name[:64]!r} has {values.size} values, its shape takes {size}")
    if values.size == size:
        return values
    filled = np.zeros(size, values.dtype)
    filled[: values.size] = values
    filled[values.size :] = values[-1] if values.size else 0  # the last value is repeated
    return filled


def tensor_to_proto(array: NDArray[Any]) -> Mapping[str, Any]:
    """Return ``array`` in the typed fields, which is where clients look."""
    datatype = datatype_of(array.dtype) or ""
    values = array.ravel()
    if datatype == "FP16":
        values = values.view(np.uint16)
    shape = {"dim": [{"size": size} for size in array.shape]}
    return {"dtype": DT[datatype], "tensor_shape": shape, _FIELDS.get(datatype, "int_val"): values}
