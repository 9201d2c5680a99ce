"""TensorProto there and back, and TensorFlow's rule for fewer values than the shape has."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.protobuf import decode_message, encode_message
from edgeferry.agent.serving.protos import TENSOR
from edgeferry.agent.serving.tfs_tensors import DT, tensor_from_proto, tensor_to_proto
from edgeferry.inference.quantization import DTYPES


def travelled(array: np.ndarray) -> np.ndarray:
    return tensor_from_proto("x", decode_message(TENSOR, encode_message(TENSOR, tensor_to_proto(array))))


@pytest.mark.parametrize("datatype", DTYPES)
def test_every_datatype_goes_there_and_back(datatype: str) -> None:
    dtype = DTYPES[datatype]
    edges = [0, 1] if dtype.kind == "b" else [0, 1, 5]
    if dtype.kind in "iu":
        edges = [np.iinfo(dtype).min, np.iinfo(dtype).max, 5]
    array = np.array([edges], dtype)

    found = travelled(array)

    assert found.dtype == dtype
    assert np.array_equal(found, array)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.floats(width=32), max_size=20))
def test_floats_keep_every_bit(numbers: list[float]) -> None:
    array = np.array(numbers, np.float32)

    assert travelled(array).tobytes() == array.tobytes()


def proto(datatype: str, shape: tuple[int, ...], **fields: Any) -> dict[str, Any]:
    return {"dtype": DT[datatype], "tensor_shape": {"dim": [{"size": size} for size in shape]}, **fields}


def test_content_is_taken_as_it_lies() -> None:
    x = np.array([[1.5, -2]], np.float32)
    upper_halves = (x.view(np.uint32) >> 16).astype("<u2").tobytes()

    assert np.array_equal(tensor_from_proto("x", proto("FP32", (1, 2), tensor_content=x.tobytes())), x)
    assert np.array_equal(tensor_from_proto("x", proto("BF16", (1, 2), tensor_content=upper_halves)), x)
    assert tensor_from_proto("x", proto("BOOL", (2,), tensor_content=b"\x00\x02")).tolist() == [False, True]


@pytest.mark.parametrize(
    ("values", "wanted"), [([], [0, 0, 0]), ([7], [7, 7, 7]), ([7, 8], [7, 8, 8]), ([7, 8, 9], [7, 8, 9])]
)
def test_the_last_value_fills_the_shape(values: list[int], wanted: list[int]) -> None:
    assert tensor_from_proto("x", proto("INT32", (3,), int_val=np.array(values, np.int64))).tolist() == wanted
    assert tensor_from_proto("x", proto("INT32", (3,))).tolist() == [0, 0, 0]


def test_a_scalar_has_no_dimensions() -> None:
    assert tensor_from_proto("x", {"dtype": DT["FP32"], "float_val": np.array([2.5], np.float32)}).tolist() == 2.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dtype": 7}, "has DataType 7, wanted one of numbers"),
        ({}, "has DataType 0, wanted one of numbers"),
        (proto("FP32", (-1,)), r"has no usable shape: \[-1\]"),
        (proto("FP32", (1,) * 40), "has no usable shape"),
        ({"dtype": 1, "tensor_shape": {"unknown_rank": 1}}, "has no usable shape"),
        (proto("FP32", (1 << 30,)), "has 1073741824 values of FP32, more than 67108864 bytes"),
        (proto("FP32", (1 << 30, 1 << 30)), "more than 67108864 bytes"),
        (proto("FP32", (2,), tensor_content=b"1234"), r"has 4 bytes, its shape \[2\] another number"),
        (proto("INT8", (1,), int_val=np.array([128])), "exceeds INT8: -128 to 127"),
        (proto("UINT8", (1,), int_val=np.array([-1])), "exceeds UINT8: 0 to 255"),
        (proto("FP32", (1,), float_val=np.zeros(2, np.float32)), "has 2 values, its shape takes 1"),
    ],
)
def test_what_is_no_tensor_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        tensor_from_proto("x", fields)
