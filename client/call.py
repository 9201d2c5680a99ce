"""A request and an answer between arrays and bytes, the same for every protocol. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeferry.client.errors import InferenceError
from edgeferry.inference.quantization import DTYPES, datatype_of
from edgeferry.wire.codec import WireError
from edgeferry.wire.messages import Code
from edgeferry.wire.tensors import TensorBytes, decode_response

__all__ = ["Answer", "Call", "arrays_of", "tensors_of"]

MAX_HEADER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked.

    Attributes:
        version: A number or a label; empty for the one that answers by itself.
        routing_key: Whose request it is, where a share of them goes to a canary; empty for nobody's.
        timeout_s: How long the answer may take.
    """

    model: str
    version: str
    tensors: Sequence[TensorBytes]
    routing_key: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: the outputs by name, and which version has made them."""

    outputs: Mapping[str, NDArray[Any]]
    version: str


def tensors_of(inputs: Mapping[str, ArrayLike]) -> tuple[TensorBytes, ...]:
    """Return arrays as they travel; double precision as FP32, which is the real numbers of TensorFlow Lite.

    Raises:
        InferenceError: One holds what no tensor can: text, objects, complex numbers.
    """
    return tuple(_tensor(name, np.asarray(value)) for name, value in inputs.items())


def _tensor(name: str, array: NDArray[Any]) -> TensorBytes:
    plain = array.astype(np.float32) if array.dtype == np.float64 else array
    datatype = datatype_of(plain.dtype)
    if datatype is None:
        detail = f"input {name!r} holds {array.dtype}, wanted numbers or truths; convert it first"
        raise InferenceError(Code.INVALID_ARGUMENT, detail)
    little = np.ascontiguousarray(plain, plain.dtype.newbyteorder("<"))
    return TensorBytes(name, datatype, plain.shape, little.tobytes())


def arrays_of(body: bytes | memoryview, header_bytes: int) -> Answer:
    """Return what a binary answer holds.

    Raises:
        InferenceError: It is none.
    """
    try:
        header, tensors = decode_response(body, header_bytes, max_header_bytes=MAX_HEADER_BYTES)
        return Answer({tensor.name: array_of(tensor) for tensor in tensors}, header.model_version)
    except WireError as err:
        raise InferenceError(Code.INTERNAL, f"the answer cannot be read: {err}") from err


def array_of(tensor: TensorBytes) -> NDArray[Any]:
    """Return a tensor's array, which may be written to.

    Raises:
        WireError: numpy has no type for it.
    """
    if tensor.datatype not in DTYPES:
        raise WireError(f"output {tensor.name!r} is {tensor.datatype}, which has no numpy type")
    return np.frombuffer(bytearray(tensor.data), DTYPES[tensor.datatype]).reshape(tensor.shape)
