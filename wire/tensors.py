"""Inference messages of the Open Inference Protocol (v2) with its binary tensor extension, without numpy.

A body is a JSON header, then the raw little-endian bytes of its binary tensors in the header's order. Over HTTP the
header's length is a field of the request; over MQTT it stands in front of the body as 4 bytes in network byte order.
Source: kserve/open-inference-protocol, specification/protocol/inference_rest.md; triton-inference-server/server,
docs/protocol/extension_binary_data.md.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET, Raw, UnsetType, field

from edgeferry.wire.codec import Message, WireError, decode, encode
from edgeferry.wire.desired import Shape

__all__ = [
    "BINARY_SIZE",
    "ITEM_BYTES",
    "InferRequest",
    "InferResponse",
    "InputTensor",
    "OutputTensor",
    "RequestedOutput",
    "TensorBytes",
    "decode_response",
    "encode_request",
    "join_body",
    "pack_mqtt",
    "split_body",
    "tensor_bytes",
    "unpack_mqtt",
]

ITEM_BYTES = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "BF16": 2,
    "FP32": 4,
    "FP64": 8,
}
BINARY_SIZE = "binary_data_size"

_LENGTH = struct.Struct(">I")


class InputTensor(Message, frozen=True):
    """One input of a request: ``data`` is JSON, or unset where ``binary_data_size`` puts it into the binary part."""

    name: str
    shape: Shape
    datatype: str
    parameters: dict[str, Any] = field(default_factory=dict)
    data: Raw | UnsetType = UNSET


class RequestedOutput(Message, frozen=True):
    """One output that is asked for."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)


class InferRequest(Message, frozen=True):
    """An inference request's header."""

    inputs: tuple[InputTensor, ...]
    id: str = ""
    outputs: tuple[RequestedOutput, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)


class OutputTensor(Message, frozen=True):
    """One output of a response."""

    name: str
    shape: Shape
    datatype: str
    parameters: dict[str, Any] = field(default_factory=dict)
    data: Raw | UnsetType = UNSET


class InferResponse(Message, frozen=True):
    """An inference response's header."""

    model_name: str
    model_version: str
    outputs: tuple[OutputTensor, ...]
    id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TensorBytes:
    """A tensor as it travels.

    Attributes:
        name: Of the input or output.
        datatype: A key of ``ITEM_BYTES``.
        shape: Dimensions, none negative.
        data: Little-endian, row-major; exactly as long as datatype and shape say.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


def tensor_bytes(datatype: str, shape: Sequence[int]) -> int:
    """Return how many bytes a tensor takes.

    Raises:
        WireError: The datatype is unknown or a dimension is negative.
    """
    if datatype not in ITEM_BYTES:
        raise WireError(f"datatype {datatype[:20]!r} is not known; wanted one of {', '.join(ITEM_BYTES)}")
    if any(size < 0 for size in shape):
        raise WireError(f"shape {list(shape)[:32]} has a negative dimension")
    return math.prod(shape) * ITEM_BYTES[datatype]


def split_body(
    body: bytes | memoryview, header_bytes: int, *, max_header_bytes: int
) -> tuple[InferRequest, list[memoryview | None]]:
    """Return a request and, for each of its inputs, the binary data or None when the data is in the JSON.

    Raises:
        WireError: The header does not parse, the sizes do not add up to the body, or one differs from its tensor's.
    """
    view = memoryview(body)
    if not 0 < header_bytes <= len(view):
        raise WireError(f"JSON header of {header_bytes} bytes in a body of {len(view)} bytes")
    request = decode(InferRequest, bytes(view[:header_bytes]), max_bytes=max_header_bytes)
    return request, _cut(view[header_bytes:], request.inputs)


def _cut(view: memoryview, tensors: Sequence[InputTensor | OutputTensor]) -> list[memoryview | None]:
    parts: list[memoryview | None] = []
    at = 0
    for tensor in tensors:
        size = tensor.parameters.get(BINARY_SIZE)
        if size is None:
            parts.append(None)
            continue
        wanted = tensor_bytes(tensor.datatype, tensor.shape)
        if type(size) is not int or size != wanted:
            raise WireError(f"{tensor.name!r}: {BINARY_SIZE} is {size}, wanted {wanted} for its datatype and shape")
        parts.append(view[at : at + size])
        at += size
    if at != len(view):
        raise WireError(f"binary tensors need {at} bytes, {len(view)} follow the JSON header")
    return parts


def join_body(header: InferRequest | InferResponse, tensors: Sequence[bytes | memoryview]) -> tuple[bytes, int]:
    """Return a body and the length of its JSON header; each tensor's header already tells its size."""
    json = encode(header)
    return b"".join((json, *tensors)), len(json)


def pack_mqtt(body: bytes, header_bytes: int) -> bytes:
    """Return a binary body as it travels over MQTT."""
    return _LENGTH.pack(header_bytes) + body


def unpack_mqtt(payload: bytes) -> tuple[memoryview, int] | None:
    """Return ``(body, header_bytes)`` of a binary MQTT payload, or None when it is plain JSON.

    The first byte of a JSON body is never zero, the first byte of a header's length always is: headers are far
    shorter than 16 MiB.

    Raises:
        WireError: The length points past the end.
    """
    if not payload or payload[0] != 0:
        return None
    if len(payload) < _LENGTH.size:
        raise WireError(f"inference: {len(payload)} bytes, wanted a length of {_LENGTH.size} bytes first")
    (header_bytes,) = _LENGTH.unpack_from(payload)
    body = memoryview(payload)[_LENGTH.size :]
    if not 0 < header_bytes <= len(body):
        raise WireError(f"inference: JSON header of {header_bytes} bytes in a body of {len(body)} bytes")
    return body, header_bytes


def encode_request(
    inputs: Sequence[TensorBytes], *, request_id: str = "", parameters: dict[str, Any] | None = None
) -> tuple[bytes, int]:
    """Return the body of a request whose inputs and outputs are all binary, and the length of its JSON header."""
    header = InferRequest(
        id=request_id,
        inputs=tuple(
            InputTensor(name=t.name, shape=t.shape, datatype=t.datatype, parameters={BINARY_SIZE: len(t.data)})
            for t in inputs
        ),
        parameters={**(parameters or {}), "binary_data_output": True},
    )
    return join_body(header, [t.data for t in inputs])


def decode_response(
    body: bytes | memoryview, header_bytes: int, *, max_header_bytes: int
) -> tuple[InferResponse, list[TensorBytes]]:
    """Return a response and its outputs, which must all be binary.

    Raises:
        WireError: It does not parse, an output is not binary, or the sizes do not add up.
    """
    view = memoryview(body)
    if not 0 < header_bytes <= len(view):
        raise WireError(f"JSON header of {header_bytes} bytes in a body of {len(view)} bytes")
    response = decode(InferResponse, bytes(view[:header_bytes]), max_bytes=max_header_bytes)
    outputs = []
    for tensor, data in zip(response.outputs, _cut(view[header_bytes:], response.outputs), strict=True):
        if data is None:
            raise WireError(f"output {tensor.name!r} came as JSON, wanted binary")
        outputs.append(TensorBytes(tensor.name, tensor.datatype, tensor.shape, data))
    return response, outputs
