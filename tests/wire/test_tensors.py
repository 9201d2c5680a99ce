"""Inference bodies: JSON header and binary tensors, over HTTP and MQTT."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from edgeferry.wire.codec import WireError, encode
from edgeferry.wire.tensors import (
    BINARY_SIZE,
    ITEM_BYTES,
    InferRequest,
    InferResponse,
    InputTensor,
    OutputTensor,
    TensorBytes,
    decode_response,
    encode_request,
    join_body,
    pack_mqtt,
    split_body,
    tensor_bytes,
    unpack_mqtt,
)

LIMIT = 64 * 1024


@st.composite
def any_tensor(draw: st.DrawFn) -> TensorBytes:
    datatype = draw(st.sampled_from(sorted(ITEM_BYTES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    size = math.prod(shape) * ITEM_BYTES[datatype]
    return TensorBytes(draw(st.text(max_size=8)), datatype, shape, draw(st.binary(min_size=size, max_size=size)))


def request(*inputs: InputTensor, binary: bytes = b"") -> tuple[bytes, int]:
    return join_body(InferRequest(inputs=inputs), [binary])


def binary_input(size: object, datatype: str = "FP32", shape: tuple[int, ...] = (2,)) -> InputTensor:
    return InputTensor(name="x", datatype=datatype, shape=shape, parameters={BINARY_SIZE: size})


@given(tensors=st.lists(any_tensor(), max_size=4), request_id=st.text(max_size=8))
def test_tensors_arrive_as_they_were_sent(tensors: list[TensorBytes], request_id: str) -> None:
    body, header_bytes = encode_request(tensors, request_id=request_id)
    unpacked = unpack_mqtt(pack_mqtt(body, header_bytes))

    assert unpacked is not None
    header, parts = split_body(*unpacked, max_header_bytes=LIMIT)
    assert header.id == request_id
    assert [
        TensorBytes(tensor.name, tensor.datatype, tensor.shape, bytes(part or b""))
        for tensor, part in zip(header.inputs, parts, strict=True)
    ] == tensors


@given(tensors=st.lists(any_tensor(), max_size=4))
def test_a_response_arrives_as_it_was_sent(tensors: list[TensorBytes]) -> None:
    outputs = tuple(
        OutputTensor(name=t.name, datatype=t.datatype, shape=t.shape, parameters={BINARY_SIZE: len(t.data)})
        for t in tensors
    )
    header = InferResponse(model_name="digits", model_version="7", outputs=outputs)
    body, header_bytes = join_body(header, [t.data for t in tensors])

    assert decode_response(body, header_bytes, max_header_bytes=LIMIT) == (header, tensors)


def test_an_input_in_json_keeps_its_json() -> None:
    body, header_bytes = request(InputTensor(name="x", datatype="FP32", shape=(2,), data=Raw(b"[1,2]")))

    header, parts = split_body(body, header_bytes, max_header_bytes=LIMIT)

    assert header.inputs[0].data == Raw(b"[1,2]")
    assert parts == [None]


def test_json_and_binary_inputs_may_be_mixed() -> None:
    body, header_bytes = request(
        InputTensor(name="a", datatype="FP32", shape=(1,), data=Raw(b"[1]")), binary_input(8), binary=b"12345678"
    )

    header, parts = split_body(body, header_bytes, max_header_bytes=LIMIT)

    assert header.inputs[1].data is UNSET
    assert parts == [None, b"12345678"]


def test_binary_data_is_a_view_and_not_a_copy() -> None:
    body, header_bytes = request(binary_input(8), binary=b"12345678")

    _, (part,) = split_body(body, header_bytes, max_header_bytes=LIMIT)

    assert part is not None
    assert part.obj is body


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (7, "'x': binary_data_size is 7, wanted 8 for its datatype and shape"),
        (9, "binary_data_size is 9, wanted 8"),
        (-8, "binary_data_size is -8, wanted 8"),
        (8.5, "binary_data_size is 8.5, wanted 8"),
        ("8", "binary_data_size is 8, wanted 8"),
        (True, "binary_data_size is True, wanted 8"),
    ],
)
def test_a_size_that_differs_from_datatype_and_shape_is_refused(size: object, said: str) -> None:
    body, header_bytes = request(binary_input(size), binary=b"12345678")

    with pytest.raises(WireError, match=said):
        split_body(body, header_bytes, max_header_bytes=LIMIT)


@pytest.mark.parametrize("binary", [b"", b"1234567", b"123456789"])
def test_sizes_that_do_not_add_up_to_the_body_are_refused(binary: bytes) -> None:
    body, header_bytes = request(binary_input(8), binary=binary)

    with pytest.raises(WireError, match=f"binary tensors need 8 bytes, {len(binary)} follow the JSON header"):
        split_body(body, header_bytes, max_header_bytes=LIMIT)


def test_an_unknown_datatype_is_refused_with_the_known_ones() -> None:
    body, header_bytes = request(binary_input(8, datatype="FLOAT"), binary=b"12345678")

    with pytest.raises(WireError, match=r"datatype 'FLOAT' is not known; wanted one of BOOL, UINT8,"):
        split_body(body, header_bytes, max_header_bytes=LIMIT)


def test_an_open_dimension_has_no_size() -> None:
    with pytest.raises(WireError, match=r"shape \[-1, 2\] has a negative dimension"):
        tensor_bytes("FP32", (-1, 2))


def test_the_items_have_the_sizes_that_the_protocol_gives_them() -> None:
    one_byte = dict.fromkeys(("BOOL", "UINT8", "INT8"), 1)
    two_bytes = dict.fromkeys(("UINT16", "INT16", "FP16", "BF16"), 2)
    four_bytes = dict.fromkeys(("UINT32", "INT32", "FP32"), 4)
    eight_bytes = dict.fromkeys(("UINT64", "INT64", "FP64"), 8)

    assert one_byte | two_bytes | four_bytes | eight_bytes == ITEM_BYTES


@pytest.mark.parametrize(("shape", "size"), [((), 4), ((0,), 0), ((2, 3), 24)])
def test_a_tensor_takes_its_items_times_their_size(shape: tuple[int, ...], size: int) -> None:
    assert tensor_bytes("FP32", shape) == size


@pytest.mark.parametrize("header_bytes", [-1, 0, 1000])
def test_a_header_that_does_not_fit_the_body_is_refused(header_bytes: int) -> None:
    body, _ = request()

    with pytest.raises(WireError, match="JSON header of"):
        split_body(body, header_bytes, max_header_bytes=LIMIT)
    with pytest.raises(WireError, match="JSON header of"):
        decode_response(body, header_bytes, max_header_bytes=LIMIT)


def test_a_header_over_its_limit_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(WireError, match="InferRequest: 100 bytes, wanted at most 99"):
        split_body(b"[" * 100, 100, max_header_bytes=99)


def test_a_response_with_an_output_in_json_is_refused() -> None:
    output = OutputTensor(name="y", datatype="FP32", shape=(1,), data=Raw(b"[1]"))
    header = encode(InferResponse(model_name="m", model_version="1", outputs=(output,)))

    with pytest.raises(WireError, match="output 'y' came as JSON, wanted binary"):
        decode_response(header, len(header), max_header_bytes=LIMIT)


class TestMqtt:
    @pytest.mark.parametrize("payload", [b"", b'{"inputs":[]}', b" {}"])
    def test_plain_json_is_told_apart(self, payload: bytes) -> None:
        assert unpack_mqtt(payload) is None

    @pytest.mark.parametrize("payload", [b"\x00", b"\x00\x00\x00"])
    def test_half_a_length_is_refused(self, payload: bytes) -> None:
        with pytest.raises(WireError, match="wanted a length of 4 bytes first"):
            unpack_mqtt(payload)

    @pytest.mark.parametrize("payload", [b"\x00\x00\x00\x00{}", b"\x00\x00\x00\x03{}", b"\x00\x00\x00\x01"])
    def test_a_length_that_does_not_fit_is_refused(self, payload: bytes) -> None:
        with pytest.raises(WireError, match="inference: JSON header of"):
            unpack_mqtt(payload)
