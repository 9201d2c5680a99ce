"""Values in JSON as TensorFlow Serving takes them, with its words for what is wrong with one.

Source: tensorflow/serving, util/json_tensor.cc.
"""

import base64
import binascii
import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.nested_json import MAX_RANK
from edgeferry.inference.quantization import DTYPES
from edgeferry.wire.desired import TensorSpec

__all__ = ["DT_NAMES", "base64_bytes", "is_base64", "parse_object", "quoted", "tensor_from_value"]

MAX_SLOW_JSON_BYTES = 8 * 1024 * 1024  # the standard library's parser takes twenty times the memory of the text
_MAX_QUOTED_BYTES = 256

DT_NAMES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "half",
    "FP32": "float",
    "FP64": "double",
}
_JSON_TYPES = {type(None): "Null", dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}


def parse_object(body: bytes | bytearray) -> dict[str, Any]:
    """Return the JSON object that ``body`` spells; NaN and the infinities are taken.

    Raises:
        RequestError: It is not JSON, not an object, or longer than this parser can take.
    """
    if not body.strip():
        raise RequestError.bad("JSON Parse error: The document is empty")
    if len(body) > MAX_SLOW_JSON_BYTES:
        raise RequestError.bad(
            f"JSON of {len(body)} bytes is not a plain list of numbers of the input's type; "
            f"anything else is taken up to {MAX_SLOW_JSON_BYTES} bytes"
        )
    try:
        document = json.loads(body)
    except json.JSONDecodeError as err:
        raise RequestError.bad(f"JSON Parse error: Invalid value. at offset: {err.pos}") from err
    except UnicodeDecodeError as err:
        raise RequestError.bad(f"JSON Parse error: Invalid encoding in string. at offset: {err.start}") from err
    except (ValueError, RecursionError) as err:
        raise RequestError.bad(f"JSON Parse error: {err}") from err
    if not isinstance(document, dict):
        raise RequestError.bad(f"JSON Value: {quoted(document)} Is not object")
    return document


def quoted(value: Any) -> str:
    """Return ``value`` as JSON for a message, cut at 256 bytes."""
    text = json.dumps(value, ensure_ascii=False)
    return text.encode(errors="replace")[:_MAX_QUOTED_BYTES].decode(errors="ignore")


def is_base64(value: Any) -> bool:
    """Return whether ``value`` is an object with a text under ``b64`` and nothing else."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def base64_bytes(value: dict[str, str]) -> bytes:
    """Return the bytes that an object with ``b64`` spells, in the usual or in the URL-safe alphabet.

    Raises:
        RequestError: It is not base64.
    """
    text = value["b64"].rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as err:
        raise RequestError.bad("Unable to base64 decode") from err


def tensor_from_value(value: Any, spec: TensorSpec, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the tensor that ``value`` spells: a number, nested lists of them, or bytes in base64.

    Args:
        value: As the standard library's parser gives it.
        spec: What the client has to send.
        shape: Wanted of bytes, which have none themselves; the first dimension may be -1.

    Raises:
        RequestError: A value is of a wrong type or out of range, or the lists are ragged.
    """
    if is_base64(value):
        return _from_bytes(base64_bytes(value), spec, shape)
    sizes = _sizes(value)
    leaves: list[Any] = []
    _collect(value, 0, sizes, leaves)
    for leaf in leaves:
        _check(leaf, spec.datatype)
    with np.errstate(over="ignore"):
        return np.array(leaves, DTYPES[spec.datatype]).reshape(sizes)


def _from_bytes(data: bytes, spec: TensorSpec, shape: tuple[int, ...]) -> NDArray[Any]:
    dtype = DTYPES[spec.datatype]
    free = [index for index, size in enumerate(shape) if size == -1]
    fixed = math.prod(size for size in shape if size != -1) * dtype.itemsize
    if len(free) > 1 or not data or (len(data) % fixed if free else len(data) != fixed):
        wanted = f"{'a multiple of ' if free else ''}{fixed} for {spec.datatype}{list(shape)}"
        raise RequestError.bad(f"b64 of input {spec.name!r} has {len(data)} bytes, wanted {wanted}")
    array = np.frombuffer(data, np.uint8) != 0 if dtype.kind == "b" else np.frombuffer(data, dtype)
    return array.reshape([len(data) // fixed if size == -1 else size for size in shape])


def _sizes(value: Any) -> tuple[int, ...]:
    sizes: list[int] = []
    while isinstance(value, list):
        if len(sizes) == MAX_RANK:
            raise RequestError.bad(f"Encountered list at unexpected level: {MAX_RANK} expected < {MAX_RANK}")
        sizes.append(len(value))
        value = value[0] if value else None
    return tuple(sizes)


def _collect(value: Any, level: int, sizes: tuple[int, ...], leaves: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(sizes):
            raise RequestError.bad(
                f"JSON Value: {quoted(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(sizes)}"
            )
        leaves.append(value)
        return
    if level >= len(sizes):
        raise RequestError.bad(f"Encountered list at unexpected level: {level} expected < {len(sizes)}")
    if len(value) != sizes[level]:
        raise RequestError.bad(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {sizes[level]}"
        )
    for item in value:
        _collect(item, level + 1, sizes, leaves)


def _check(leaf: Any, datatype: str) -> None:
    dtype = DTYPES[datatype]
    if type(leaf) not in {"f": (int, float), "b": (bool,)}.get(dtype.kind, (int,)):
        raise _type_error(leaf, datatype)
    if dtype.kind == "f" and not _is_lossless(leaf, dtype):
        raise RequestError.bad(
            f"Cannot convert JSON value: {quoted(leaf)} to {DT_NAMES[datatype]} without loss of precision."
        )
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= leaf <= np.iinfo(dtype).max:
        raise _type_error(leaf, datatype)


def _type_error(leaf: Any, datatype: str) -> RequestError:
    kind = str(leaf) if isinstance(leaf, bool) else _JSON_TYPES[type(leaf)]
    detail = f"JSON Value: {quoted(leaf)} Type: {kind} is not of expected type: {DT_NAMES[datatype]}"
    return RequestError.bad(detail)


def _is_lossless(number: float, dtype: np.dtype[Any]) -> bool:
    info = np.finfo(dtype)
    if isinstance(number, int):
        return abs(number) < 1 << (info.nmant + 1)
    return not math.isfinite(number) or abs(number) <= float(info.max)
