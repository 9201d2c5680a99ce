import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edgeferry.agent.serving import tensor_json
from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.tensor_json import tensor_from_json, tensor_from_list, tensor_to_json
from edgeferry.inference.quantization import DTYPES


@pytest.mark.parametrize("datatype", sorted(DTYPES))
@given(data=st.data())
def test_every_datatype_comes_back_as_it_went(datatype: str, data: st.DataObject) -> None:
    array = data.draw(arrays(DTYPES[datatype], array_shapes(max_dims=3, max_side=4)))
    array = np.nan_to_num(array)

    text = tensor_to_json(array)

    back = tensor_from_json(text, name="x", datatype=datatype, shape=array.shape)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_numbers_that_json_lacks_are_written_and_taken() -> None:
    text = tensor_to_json(np.array([np.nan, np.inf, -np.inf], np.float32))

    assert text == b"[NaN, Infinity, -Infinity]"


def test_a_float_beyond_float32_becomes_infinite() -> None:
    array = tensor_from_json(b"[1e300]", name="x", datatype="FP32", shape=(1,))

    assert array.tolist() == [np.inf]


def test_lists_are_flattened_and_checked() -> None:
    assert tensor_from_list([[1, 2.5], [3, 4]], name="x", datatype="FP32", shape=(2, 2)).tolist() == [[1, 2.5], [3, 4]]
    assert tensor_from_list(7, name="x", datatype="INT8", shape=(1,)).tolist() == [7]
    assert tensor_from_list([True], name="x", datatype="BOOL", shape=(1,)).tolist() == [True]


@pytest.mark.parametrize("data", [[True], ["1"], [None], [{}]])
def test_what_is_no_number_is_refused(data: object) -> None:
    with pytest.raises(RequestError, match="data of input 'x' is not a list of FP32: it has"):
        tensor_from_list(data, name="x", datatype="FP32", shape=(1,))


def test_too_many_numbers_have_to_come_as_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_json, "MAX_JSON_NUMBERS", 3)

    with pytest.raises(RequestError, match="send more than 3 as binary data"):
        tensor_from_json(b"[1,2,3,4]", name="x", datatype="INT8", shape=(4,))


@pytest.mark.parametrize(("datatype", "number"), [("UINT64", -1), ("INT64", 2**63), ("INT8", 128), ("UINT8", 2**70)])
def test_an_integer_beyond_its_datatype_is_refused(datatype: str, number: int) -> None:
    with pytest.raises(RequestError, match=f"data of input 'x' exceeds {datatype}: "):
        tensor_from_list([number], name="x", datatype=datatype, shape=(1,))


def test_the_largest_integers_are_taken() -> None:
    array = tensor_from_json(b"[18446744073709551615]", name="x", datatype="UINT64", shape=(1,))

    assert array.tolist() == [2**64 - 1]
