"""Numbers of a tensor as JSON and back, fast.

One flat list is several times quicker to parse than nested ones, so the brackets inside are dropped first: the shape
stands beside the data anyway. NaN and the infinities, which JSON does not have but everybody writes, take the standard
library's slower way.
"""

import json
import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeferry.agent.serving.errors import RequestError
from edgeferry.inference.quantization import DTYPES

__all__ = ["MAX_JSON_NUMBERS", "tensor_from_json", "tensor_from_list", "tensor_to_json"]

MAX_JSON_NUMBERS = 4_000_000  # each takes 32 bytes while it is a Python object

_INTEGERS: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[int])
_DECODERS: dict[str, msgspec.json.Decoder[list[Any]]] = {
    "f": msgspec.json.Decoder(list[float]),
    "b": msgspec.json.Decoder(list[bool]),
}
_PYTHON_TYPES: dict[str, set[type]] = {"f": {int, float}, "b": {bool}}


def tensor_from_json(text: bytes | memoryview, *, name: str, datatype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the tensor whose numbers ``text`` spells, flat or nested.

    Raises:
        RequestError: They are not numbers of the datatype, or not as many as the shape says.
    """
    inner = bytes(text).translate(None, b"[]")
    _check_count(inner.count(b",") + 1 if inner.strip() else 0, name, shape)
    kind = DTYPES[datatype].kind
    decoder = _DECODERS.get(kind, _INTEGERS)
    try:
        numbers = decoder.decode(b"[" + inner + b"]")
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise RequestError.bad(f"data of input {name!r} is not a list of {datatype}: {err}") from err
    return _array(numbers, name, datatype).reshape(shape)


def tensor_from_list(data: object, *, name: str, datatype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the tensor whose numbers are ``data``: Python lists as the standard library's parser makes them.

    Raises:
        RequestError: They are not numbers of the datatype, or not as many as the shape says.
    """
    numbers = _flattened(data)
    _check_count(len(numbers), name, shape)
    types = _PYTHON_TYPES.get(DTYPES[datatype].kind, {int})
    stray = [number for number in numbers if type(number) not in types]
    if stray:
        raise RequestError.bad(f"data of input {name!r} is not a list of {datatype}: it has {str(stray[0])[:40]!r}")
    return _array(numbers, name, datatype).reshape(shape)


def tensor_to_json(array: NDArray[Any]) -> bytes:
    """Return the tensor's numbers as one flat JSON list."""
    numbers = array.ravel().tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return json.dumps(numbers).encode()  # writes NaN, Infinity and -Infinity
    return msgspec.json.encode(numbers)


def _check_count(found: int, name: str, shape: tuple[int, ...]) -> None:
    wanted = math.prod(shape)
    if found != wanted:
        raise RequestError.bad(f"input {name!r} has {found} numbers, its shape {list(shape)} takes {wanted}")
    if wanted > MAX_JSON_NUMBERS:
        raise RequestError.bad(f"input {name!r} has {wanted} numbers; send more than {MAX_JSON_NUMBERS} as binary data")


def _flattened(data: object) -> list[Any]:
    flat = data if isinstance(data, list) else [data]
    while any(isinstance(item, list) for item in flat):
        flat = [leaf for item in flat for leaf in (item if isinstance(item, list) else [item])]
    return flat


def _array(numbers: list[Any], name: str, datatype: str) -> NDArray[Any]:
    dtype = DTYPES[datatype]
    if dtype.kind not in "iu":
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, as in C
            return np.array(numbers, dtype)
    limits = np.iinfo(dtype)
    try:
        wide = np.array(numbers, np.int64)
    except OverflowError:
        wide = np.array(numbers, object)  # large ones of UINT64, or far too large ones of any
    # Checked here, for numpy 1 wraps what numpy 2 refuses.
    if wide.size and (wide.min() < limits.min or wide.max() > limits.max):
        raise RequestError.bad(f"data of input {name!r} exceeds {datatype}: {limits.min} to {limits.max}")
    return wide.astype(dtype)
