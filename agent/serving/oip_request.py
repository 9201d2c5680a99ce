"""What an inference request of the Open Inference Protocol asks for, checked against the model's tensors.

Three forms: JSON alone; JSON followed by binary tensors (``Inference-Header-Content-Length``); and, with that length 0,
one raw tensor alone. A quantized input is given in its own datatype, or as FP32, which is quantized here; then the
outputs go back as FP32 too. FP16 and BF16 are taken for FP32, which holds all of their values. No model takes BYTES.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.oip_classes import class_count
from edgeferry.agent.serving.sessions import ALONE, Turn, turn_of
from edgeferry.agent.serving.tensor_json import tensor_from_json, tensor_from_list
from edgeferry.inference.model import fits
from edgeferry.inference.quantization import DTYPES, is_quantized, quantize
from edgeferry.wire.codec import Message, WireError, decode
from edgeferry.wire.desired import TensorSpec
from edgeferry.wire.tensors import InferRequest, InputTensor, RequestedOutput, split_body

__all__ = [
    "InferCall",
    "Source",
    "WantedOutput",
    "assemble_call",
    "decode_infer",
    "parameters_of",
    "routing_key_of",
    "tensor_from_bytes",
]

_MAX_ODD_JSON_BYTES = 8 * 1024 * 1024  # of JSON with NaN, which takes far more memory to parse
_REAL = ("FP32", "FP16", "BF16")
_WIDENED = {"FP32": ("FP16", "BF16")}
_BINARY = "binary_data"
_BINARY_DEFAULT = "binary_data_output"

# Binary, JSON text, lists from the standard library's parser, or flat numbers of the datatype.
Source = memoryview | bytes | list[Any] | NDArray[Any] | None


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """An output that the client wants.

    Attributes:
        is_binary: Whether as binary data.
        classes: How many of the best classes are wanted instead of the tensor; 0 for the tensor.
    """

    spec: TensorSpec
    is_binary: bool
    classes: int = 0


@dataclass(frozen=True, slots=True)
class InferCall:
    """A request, ready to run.

    Attributes:
        inputs: By name, in the model's own dtypes.
        outputs: What the answer holds, in order.
        is_real: Whether quantized outputs go back as FP32.
        turn: Which state of a stateful model it goes on with.
    """

    id: str
    inputs: Mapping[str, NDArray[Any]]
    outputs: Sequence[WantedOutput]
    is_real: bool
    turn: Turn = ALONE


def decode_infer(
    body: bytearray, header_bytes: int | None, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> InferCall:
    """Return what ``body`` asks for.

    Args:
        body: Of the request.
        header_bytes: Value of Inference-Header-Content-Length; None when it was not sent.
        inputs: What the model takes.
        outputs: What it gives.

    Raises:
        RequestError: It is malformed, or not what the model takes.
    """
    if header_bytes == 0:
        return _raw_call(body, inputs, outputs)
    request, sources = _parse(body, len(body) if header_bytes is None else header_bytes)
    return assemble_call(request, sources, inputs, outputs)


class _Parameters(Message, frozen=True):
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)


def parameters_of(body: bytearray, header_bytes: int | None) -> Mapping[str, Any]:
    """Return the parameters of the request in ``body``, before it is known which version it is for.

    There are none where it cannot be read: what is wrong with it is told when all of it is read.
    """
    header = body if header_bytes is None else body[:header_bytes]
    try:
        return decode(_Parameters, bytes(header), max_bytes=len(header)).parameters
    except WireError:
        return {}


def routing_key_of(shown: str, parameters: Mapping[str, Any]) -> str:
    """Return whose request it is: ``shown`` beside it, else its ``routing_key``, else its sequence; or nothing.

    A sequence has its state in one version, so all of it goes there.
    """
    return shown or str(parameters.get("routing_key") or parameters.get("sequence_id") or "")


def assemble_call(
    request: InferRequest, sources: Sequence[Source], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> InferCall:
    """Return what ``request`` asks for.

    Args:
        request: Its header.
        sources: Where the data of each of its inputs is.
        inputs: What the model takes.
        outputs: What it gives.

    Raises:
        RequestError: It is not what the model takes.
    """
    specs = {spec.name: spec for spec in inputs}
    tensors: dict[str, NDArray[Any]] = {}
    is_real = False
    for tensor, source in zip(request.inputs, sources, strict=True):
        spec = specs.get(tensor.name) or (inputs[0] if not tensor.name and len(inputs) == 1 else None)
        if spec is None or spec.name in tensors:
            raise RequestError.bad(f"input {tensor.name[:64]!r} is given twice or unknown; wanted {_names(inputs)}")
        array = _tensor(tensor, source, spec)
        if is_quantized(spec) and tensor.datatype != spec.datatype:
            array = _quantized(array, spec)
            is_real = True
        tensors[spec.name] = array
    if len(tensors) != len(specs):
        raise RequestError.bad(f"got inputs {', '.join(tensors) or 'none'}; wanted {_names(inputs)}")
    wanted = _wanted_outputs(request, outputs)
    return InferCall(request.id, tensors, wanted, is_real, turn_of(request.parameters))


def _raw_call(body: bytearray, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> InferCall:
    if len(inputs) != 1:
        raise RequestError.bad(f"a raw body holds one tensor, the model takes {_names(inputs)}; send a JSON header")
    spec = inputs[0]
    dtype = DTYPES[spec.datatype]
    fixed = math.prod(size for size in spec.shape if size != -1) * dtype.itemsize
    free = [i for i, size in enumerate(spec.shape) if size == -1]
    if len(free) > 1 or (len(body) % fixed if free else len(body) != fixed) or not body:
        wanted = f"{'a multiple of ' if free else ''}{fixed} for {spec.datatype}{list(spec.shape)}"
        raise RequestError.bad(f"the raw body has {len(body)} bytes, wanted {wanted}")
    shape = tuple(len(body) // fixed if size == -1 else size for size in spec.shape)
    tensors = {spec.name: tensor_from_bytes(body, spec.datatype).reshape(shape)}
    return InferCall("", tensors, [WantedOutput(output, is_binary=False) for output in outputs], is_real=False)


def _parse(body: bytearray, header_bytes: int) -> tuple[InferRequest, Sequence[Source]]:
    try:
        request, binaries = split_body(memoryview(body), header_bytes, max_header_bytes=len(body))
    except WireError as err:
        # msgspec takes no NaN and no Infinity; whatever else is wrong is told by the error that it gave.
        if b"NaN" not in body[:header_bytes] and b"Infinity" not in body[:header_bytes]:
            raise RequestError.bad(str(err)) from err
        return _parse_odd_json(body, header_bytes)
    sources = [_source(tensor, part) for tensor, part in zip(request.inputs, binaries, strict=True)]
    return request, sources


def _source(tensor: InputTensor, binary: memoryview | None) -> Source:
    if binary is not None:
        return binary
    return None if isinstance(tensor.data, msgspec.UnsetType) else bytes(tensor.data)


def _parse_odd_json(body: bytearray, header_bytes: int) -> tuple[InferRequest, Sequence[Source]]:
    if header_bytes != len(body) or len(body) > _MAX_ODD_JSON_BYTES:
        raise RequestError.bad(
            f"NaN and Infinity are taken in plain JSON of at most {_MAX_ODD_JSON_BYTES} bytes, or as binary data"
        )
    try:
        document = json.loads(body)
        sources = [tensor.pop("data", None) for tensor in document["inputs"]]
        return msgspec.convert(document, InferRequest), sources
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise RequestError.bad(f"InferRequest: {err}") from err


def _tensor(tensor: InputTensor, source: Source, spec: TensorSpec) -> NDArray[Any]:
    _check_input(tensor.datatype, tensor.shape, spec)
    match source:
        case np.ndarray():
            return _widened(source, spec).reshape(tensor.shape)
        case memoryview():
            return _widened(tensor_from_bytes(source, tensor.datatype), spec).reshape(tensor.shape)
        case None:
            raise RequestError.bad(f"input {spec.name!r} has neither data nor binary_data_size")
        case _:
            # JSON spells BF16 as it spells FP32.
            datatype = "FP32" if tensor.datatype == "BF16" else tensor.datatype
            parse = tensor_from_json if isinstance(source, bytes) else tensor_from_list
            array = parse(source, name=spec.name, datatype=datatype, shape=tensor.shape)  # type: ignore[arg-type]
            return _widened(array, spec)


def _widened(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    return array.astype(np.float32) if array.dtype == np.float16 and spec.datatype != "FP16" else array


def _check_input(datatype: str, shape: tuple[int, ...], spec: TensorSpec) -> None:
    takes = (spec.datatype, *(_REAL if is_quantized(spec) else _WIDENED.get(spec.datatype, ())))
    if datatype not in takes:
        raise RequestError.bad(f"input {spec.name!r} is {datatype[:16]}, wanted {' or '.join(takes)}")
    if not fits(shape, spec.shape):
        raise RequestError.bad(f"input {spec.name!r} has shape {list(shape)[:32]}, wanted {list(spec.shape)}")


def tensor_from_bytes(data: bytes | bytearray | memoryview, datatype: str) -> NDArray[Any]:
    """Return the flat tensor in ``data``, little-endian; BF16 as float32."""
    if datatype == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    dtype = DTYPES[datatype]
    if dtype.kind == "b":
        truths: NDArray[Any] = np.frombuffer(data, np.uint8) != 0  # with another bit set it is not a bool to C
        return truths
    return np.frombuffer(data, dtype)


def _quantized(real: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    try:
        return quantize(real, spec)
    except ValueError as err:
        raise RequestError.bad(str(err)) from err


def _wanted_outputs(request: InferRequest, outputs: Sequence[TensorSpec]) -> Sequence[WantedOutput]:
    binary = request.parameters.get(_BINARY_DEFAULT) is True
    if not request.outputs:
        return [WantedOutput(spec, binary) for spec in outputs]
    specs = {spec.name: spec for spec in outputs}
    return [_wanted_output(wanted, specs, binary=binary) for wanted in request.outputs]


def _wanted_output(wanted: RequestedOutput, specs: Mapping[str, TensorSpec], *, binary: bool) -> WantedOutput:
    if wanted.name not in specs:
        raise RequestError.bad(f"output {wanted.name[:64]!r} is unknown; the model gives {_names(specs.values())}")
    is_binary = wanted.parameters.get(_BINARY, binary) is True
    return WantedOutput(specs[wanted.name], is_binary, class_count(wanted.parameters, wanted.name))


def _names(specs: Any) -> str:
    return ", ".join(repr(spec.name) for spec in specs)
