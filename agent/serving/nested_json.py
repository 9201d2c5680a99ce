"""Nested lists of numbers in JSON as a tensor, fast: shape from the brackets, numbers from one flat list.

A list is regular when its brackets and commas are exactly those that its shape makes. Whatever is not a regular list of
plain numbers is left to a slower parser, which can say what is wrong with it.
"""

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeferry.agent.serving.tensor_json import MAX_JSON_NUMBERS
from edgeferry.inference.quantization import DTYPES

__all__ = ["MAX_RANK", "tensor_from_nested_json"]

MAX_RANK = 32  # the most that numpy 1 holds

_NOT_BRACKETS = bytes(set(range(256)) - set(b"[],"))
_INTEGERS: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[int])
_DECODERS: dict[str, msgspec.json.Decoder[list[Any]]] = {
    "f": msgspec.json.Decoder(list[float]),
    "b": msgspec.json.Decoder(list[bool]),
}
_EXACT_INTEGERS = {2: 2**11, 4: 2**24, 8: 2**53}  # below these, a float of so many bytes holds every integer


def tensor_from_nested_json(text: bytes, datatype: str) -> NDArray[Any] | None:
    """Return the tensor that ``text`` spells, or None when another parser has to look at it.

    Args:
        text: Valid JSON: a number, or lists of numbers.
        datatype: Of the tensor. Numbers that it cannot hold, or not exactly, are left to the other parser.
    """
    shape = _shape(text.translate(None, _NOT_BRACKETS))
    if shape is None or not 0 < math.prod(shape) <= MAX_JSON_NUMBERS:
        return None
    dtype = DTYPES[datatype]
    try:
        numbers = _DECODERS.get(dtype.kind, _INTEGERS).decode(b"[" + text.translate(None, b"[]") + b"]")
        wide: NDArray[Any] = np.array(numbers, {"f": np.float64, "b": np.bool_}.get(dtype.kind, np.int64))
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError):
        return None
    if wide.size != math.prod(shape) or not _holds(dtype, wide):
        return None
    return wide.astype(dtype).reshape(shape)


def _shape(skeleton: bytes) -> tuple[int, ...] | None:
    sizes: list[int] = []
    rest = skeleton
    while rest:
        end = rest.find(b"]") + 1
        begin = rest.rfind(b"[", 0, end)
        if len(sizes) == MAX_RANK or begin < 0:
            return None
        innermost = rest[begin:end]
        sizes.append(len(innermost) - 1)  # n numbers have n - 1 commas and two brackets
        rest = rest.replace(innermost, b"")
    return tuple(reversed(sizes)) if skeleton == _skeleton(sizes, len(skeleton)) else None


def _skeleton(sizes: list[int], wanted_bytes: int) -> bytes:
    text = b""
    for size in sizes:
        if (len(text) + 1) * size > wanted_bytes:  # an irregular list could make it very long
            return b""
        text = b"[" + b",".join([text] * size) + b"]"
    return text


def _holds(dtype: np.dtype[Any], wide: NDArray[Any]) -> bool:
    if dtype.kind == "b":
        return True
    if dtype.kind == "f":
        return bool(np.abs(wide).max() < _EXACT_INTEGERS[dtype.itemsize])
    limits = np.iinfo(dtype)
    return bool(wide.min() >= limits.min and wide.max() <= limits.max)
