import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeferry.agent.serving.nested_json import tensor_from_nested_json

SHAPES = st.lists(st.integers(1, 4), max_size=4).map(tuple)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(SHAPES, st.sampled_from(["FP32", "INT8", "UINT8", "INT64", "FP64"]), st.sampled_from([None, 2]))
def test_a_regular_list_is_the_tensor_that_it_spells(shape: tuple[int, ...], datatype: str, indent: int | None) -> None:
    array = np.random.default_rng(0).integers(0, 100, shape)

    found = tensor_from_nested_json(json.dumps(array.tolist(), indent=indent).encode(), datatype)

    assert found is not None
    assert found.shape == shape
    assert np.array_equal(found, array)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.recursive(st.integers(0, 9), lambda inner: st.lists(inner, max_size=3), max_leaves=10))
def test_an_irregular_list_is_never_taken_for_a_regular_one(value: object) -> None:
    found = tensor_from_nested_json(json.dumps(value).encode(), "FP32")

    assert found is None or found.tolist() == value


def test_booleans_are_taken_as_such() -> None:
    found = tensor_from_nested_json(b"[true, false]", "BOOL")

    assert found is not None
    assert found.tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "datatype"),
    [
        (b'["[1]"]', "FP32"),
        (b'{"b64": "AA=="}', "FP32"),
        (b"[1, null]", "FP32"),
        (b"[[], []]", "FP32"),
        (b"[]", "FP32"),
        (b"[1.5]", "INT8"),
        (b"[true]", "INT8"),
        (b"[128]", "INT8"),
        (b"[-1]", "UINT8"),
        (b"[18446744073709551616]", "UINT64"),
        (b"[16777216]", "FP32"),
        (b"[2048]", "FP16"),
        (b"[1, [2, 3]]", "FP32"),
        (b"[[1, 2], [3]]", "FP32"),
        (b"[" * 40 + b"1" + b"]" * 40, "FP32"),
        (b'["\xff"]', "FP32"),
        (b'"[,"', "FP32"),
    ],
)
def test_everything_else_is_left_to_another_parser(text: bytes, datatype: str) -> None:
    assert tensor_from_nested_json(text, datatype) is None


def test_a_hostile_list_takes_no_time_and_no_memory() -> None:
    ragged = b"[" + b",".join(b"[" + b",".join([b"1"] * (n % 97)) + b"]" for n in range(20_000)) + b"]"
    steps = b"[[1,1]," * 1000 + b"1" + b"]" * 1000
    began = time.perf_counter()

    assert tensor_from_nested_json(ragged, "FP32") is None
    assert tensor_from_nested_json(steps, "FP32") is None

    assert time.perf_counter() - began < 5
